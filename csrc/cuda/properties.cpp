#include "cuda/properties.hpp"

#include "cuda/cuda_device.hpp"
#include "format_text.hpp"

#include <iomanip>
#include <sstream>

namespace predictor {
namespace {

std::string version_text(int version) {
  return text(version / 1000, '.', version % 1000 / 10);
}

std::string uuid_text(const cudaUUID_t& uuid) {
  std::ostringstream line;
  line << "GPU-" << std::hex << std::setfill('0');
  for (std::size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    line << (i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "") << std::setw(2)
         << static_cast<int>(static_cast<unsigned char>(uuid.bytes[i]));
  }
  return line.str();
}

} // namespace

int device_attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

std::map<std::string, Property> CudaDevice::properties() const {
  cudaDeviceProp found{};
  CUDA_CHECK(cudaGetDeviceProperties(&found, index_));
  int driver = 0;
  int runtime = 0;
  CUDA_CHECK(cudaDriverGetVersion(&driver));
  CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  std::array<char, 32> bus{};
  CUDA_CHECK(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), index_));
  return {{"name", std::string(found.name)},
          {"sm_count", std::int64_t{sm_count_}},
          {"l2_bytes", static_cast<std::int64_t>(l2_bytes_)},
          {"memory_bytes", static_cast<std::int64_t>(found.totalGlobalMem)},
          {"compute_capability", text(found.major, '.', found.minor)},
          {"pci_bus_id", std::string(bus.data())},
          {"uuid", uuid_text(found.uuid)},
          {"max_sm_clock_hz", 1e3 * device_attribute(cudaDevAttrClockRate, index_)},
          {"driver_version", version_text(driver)},
          {"runtime_version", version_text(runtime)}};
}

} // namespace predictor
