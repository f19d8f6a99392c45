// NCCL communicators of one device, by the name of their group.
#pragma once

#include "cuda/cuda_device.hpp"
#include "libraries/nccl.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>

namespace predictor {

// One rank's communicator. Ends with its group; in an abandoned process it is left to the driver.
class Communicator {
public:
  // Returns once all ranks of the group are here.
  Communicator(const Nccl& nccl, const Membership& membership);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] NcclComm handle() const { return handle_; }
  [[nodiscard]] int ranks() const { return ranks_; }
  [[nodiscard]] int rank() const { return rank_; }

  // Ends collectives whose peers are gone; the communicator is of no use afterwards.
  void abort() noexcept;

private:
  const Nccl& nccl_;
  NcclComm handle_ = nullptr;
  int ranks_;
  int rank_;
};

struct Groups {
  // Opened at first use; raises LibraryMissing.
  [[nodiscard]] const Nccl& open();

  std::optional<Nccl> nccl;
  std::map<std::string, std::shared_ptr<Communicator>, std::less<>> communicators;
};

[[nodiscard]] Groups& groups_of(CudaDevice& device);

} // namespace predictor
