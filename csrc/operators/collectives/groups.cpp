#include "operators/collectives/groups.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "operators/registry.hpp"

#include <chrono>
#include <cstring>
#include <future>
#include <thread>
#include <utility>

namespace predictor {
namespace {

// An abort waits for kernels to see its flag; one that does not return is left behind.
constexpr std::chrono::seconds abort_patience{3};

NcclId id_of(const std::string& bytes) {
  if (bytes.size() != nccl_id_bytes) {
    throw NativeError(text("a group's id has ", nccl_id_bytes, " bytes, not ", bytes.size()));
  }
  NcclId id{};
  std::memcpy(id.bytes, bytes.data(), nccl_id_bytes);
  return id;
}

} // namespace

Communicator::Communicator(const Nccl& nccl, const Membership& membership)
    : nccl_(nccl), ranks_(membership.ranks), rank_(membership.rank) {
  NcclConfig config;
  if (membership.max_ctas > 0) {
    config.max_ctas = membership.max_ctas;
  }
  NCCL_CHECK(nccl_, init_rank(&handle_, ranks_, id_of(membership.id), rank_, &config));
}

Communicator::~Communicator() {
  if (handle_ != nullptr && !device_abandoned()) {
    (void)nccl_.destroy(handle_);
  }
}

void Communicator::abort() noexcept {
  if (handle_ != nullptr) {
    (void)nccl_.abort(std::exchange(handle_, nullptr));
  }
}

const Nccl& Groups::open() {
  if (!nccl) {
    nccl.emplace();
  }
  return *nccl;
}

Groups& groups_of(CudaDevice& device) {
  if (!device.groups) {
    device.groups = std::make_shared<Groups>();
  }
  return *device.groups;
}

std::string new_nccl_id(CudaDevice& device) {
  const Nccl& nccl = groups_of(device).open();
  NcclId id{};
  NCCL_CHECK(nccl, get_unique_id(&id));
  return {id.bytes, nccl_id_bytes};
}

void join_group(CudaDevice& device, const Membership& membership) {
  Groups& groups = groups_of(device);
  groups.communicators[membership.name] = std::make_shared<Communicator>(groups.open(), membership);
}

void leave_group(CudaDevice& device, const std::string& name) {
  groups_of(device).communicators.erase(name);
}

void abort_all_groups(CudaDevice& device) noexcept {
  if (!device.groups) {
    return;
  }
  try {
    auto aborted = std::make_shared<std::promise<void>>();
    std::future<void> done = aborted->get_future();
    std::thread([groups = device.groups, aborted] {
      for (const auto& [name, communicator] : groups->communicators) {
        communicator->abort();
      }
      aborted->set_value();
    }).detach();
    (void)done.wait_for(abort_patience);
  } catch (const std::exception&) {
    return; // no thread, no abort: the process ends anyway
  }
}

void add_nccl_library(CudaDevice& device, std::map<std::string, LibraryInfo>& found) {
  try {
    const Nccl& nccl = groups_of(device).open();
    found["nccl"] = {.path = nccl.library.path(), .version = nccl.version(), .error = ""};
  } catch (const NativeError& error) {
    found["nccl"].error = error.what();
  }
}

} // namespace predictor
