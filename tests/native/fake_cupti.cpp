// A libcupti with the C interface of the real one: each `fake_kernel` leaves a record.
#include <cstdint>
#include <cstring>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Record {
  std::uint32_t kind;
  std::uint8_t rest[12];
  std::uint64_t start;
  std::uint64_t end;
  std::uint8_t more[128]; // real records are longer than what is read of them
};

using RequestBuffer = void (*)(std::uint8_t**, std::size_t*, std::size_t*);
using CompleteBuffer = void (*)(void*, std::uint32_t, std::uint8_t*, std::size_t, std::size_t);

RequestBuffer request = nullptr;
CompleteBuffer complete = nullptr;
std::vector<Record> pending;
bool enabled = false;
int refusal = 0;

} // namespace

EXPORT void fake_kernel(std::uint32_t kind, std::uint64_t start, std::uint64_t end) {
  if (enabled) {
    pending.push_back({kind, {}, start, end, {}});
  }
}
EXPORT void fake_refuse(int status) {
  refusal = status;
}
EXPORT int cuptiActivityRegisterCallbacks(RequestBuffer ask, CompleteBuffer give) {
  request = ask;
  complete = give;
  return 0;
}
EXPORT int cuptiActivityEnable(int) {
  enabled = refusal == 0;
  return refusal;
}
EXPORT int cuptiActivityDisable(int) {
  enabled = false;
  return 0;
}
EXPORT int cuptiActivityFlushAll(std::uint32_t) {
  if (pending.empty()) {
    return 0;
  }
  std::uint8_t* buffer = nullptr;
  std::size_t size = 0;
  std::size_t most = 0;
  request(&buffer, &size, &most);
  const std::size_t bytes = pending.size() * sizeof(Record);
  std::memcpy(buffer, pending.data(), bytes);
  pending.clear();
  complete(nullptr, 0, buffer, size, bytes);
  return 0;
}
EXPORT int cuptiActivityGetNextRecord(std::uint8_t* buffer, std::size_t valid, Record** record) {
  Record* const first = reinterpret_cast<Record*>(buffer);
  Record* const next = *record == nullptr ? first : *record + 1;
  if (next >= first + valid / sizeof(Record)) {
    return 12; // CUPTI_ERROR_MAX_LIMIT_REACHED
  }
  *record = next;
  return 0;
}
EXPORT int cuptiGetResultString(int, const char** words) {
  *words = "FAKE_REFUSAL";
  return 0;
}
