#include "libraries/cupti.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "libraries/loader.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <mutex>

namespace predictor {
namespace {

// The little of CUPTI's C interface that is needed (cupti_activity.h and cupti_result.h of CUDA
// 13.0), so that no header of it is needed to build.
using Result = int;
constexpr Result success = 0;
constexpr std::uint32_t flush_forced = 1;
constexpr std::array<int, 3> kinds{1, 2, 10}; // memcpy, memset, concurrent kernel

// The head that records of these three kinds share: ActivityMemcpy6, ActivityMemset4 and
// ActivityKernel10, and all before them since CUDA 9, hold both times at these places.
struct Record {
  std::uint32_t kind;
  std::array<std::uint8_t, 12> of_the_kind;
  std::uint64_t start_nanoseconds;
  std::uint64_t end_nanoseconds;
};
static_assert(sizeof(Record) == 32);

using RequestBuffer = void (*)(std::uint8_t**, std::size_t*, std::size_t*);
using CompleteBuffer = void (*)(void*, std::uint32_t, std::uint8_t*, std::size_t, std::size_t);

struct Cupti {
  Cupti() : library({"cupti", "PREDICTOR_CUPTI", "nvidia/*/lib", "libcupti.so.13"}) {
    library.bind(register_callbacks, "cuptiActivityRegisterCallbacks");
    library.bind(enable, "cuptiActivityEnable");
    library.bind(disable, "cuptiActivityDisable");
    library.bind(flush, "cuptiActivityFlushAll");
    library.bind(next, "cuptiActivityGetNextRecord");
    library.bind(result_text, "cuptiGetResultString");
  }

  void require(Result result, const char* call) const {
    if (result != success) {
      const char* words = nullptr;
      result_text(result, &words);
      throw NativeError(text("CUPTI: ", words == nullptr ? "unknown error" : words, " (status ",
                             result, ") from ", call));
    }
  }

  Library library;
  Result (*register_callbacks)(RequestBuffer, CompleteBuffer) = nullptr;
  Result (*enable)(int) = nullptr;
  Result (*disable)(int) = nullptr;
  Result (*flush)(std::uint32_t) = nullptr;
  Result (*next)(std::uint8_t*, std::size_t, Record**) = nullptr;
  Result (*result_text)(Result, const char**) = nullptr;
};

// CUPTI's callbacks carry no argument of ours and may come from a thread of its own.
std::mutex collected_mutex;
std::vector<Activity> collected;

const Cupti& cupti();

constexpr std::size_t buffer_bytes = std::size_t{1} << 20;
constexpr std::size_t buffer_alignment = 8;

void request_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(buffer_alignment, buffer_bytes));
  *size = *buffer == nullptr ? 0 : buffer_bytes;
  *most_records = 0; // as many as fit
}

void complete_buffer(void*, std::uint32_t, std::uint8_t* buffer, std::size_t, std::size_t valid) {
  const std::lock_guard lock(collected_mutex);
  Record* record = nullptr;
  while (valid > 0 && cupti().next(buffer, valid, &record) == success) {
    if (std::find(kinds.begin(), kinds.end(), static_cast<int>(record->kind)) != kinds.end()) {
      collected.push_back({1e-9 * static_cast<double>(record->start_nanoseconds),
                           1e-9 * static_cast<double>(record->end_nanoseconds)});
    }
  }
  std::free(buffer);
}

const Cupti& cupti() {
  static const Cupti opened; // tried again by the next call where it fails
  return opened;
}

// Records while it lives.
class Recording {
public:
  Recording() {
    cupti().require(cupti().register_callbacks(&request_buffer, &complete_buffer),
                    "cuptiActivityRegisterCallbacks");
    for (const int kind : kinds) {
      cupti().require(cupti().enable(kind), "cuptiActivityEnable");
    }
  }
  ~Recording() {
    for (const int kind : kinds) {
      (void)cupti().disable(kind);
    }
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  static void flush() { cupti().require(cupti().flush(flush_forced), "cuptiActivityFlushAll"); }
};

} // namespace

std::vector<Activity> record_activity_with_cupti(const std::function<void()>& work) {
  const Recording recording;
  Recording::flush(); // what ran before is not ours
  {
    const std::lock_guard lock(collected_mutex);
    collected.clear();
  }
  work();
  Recording::flush();
  const std::lock_guard lock(collected_mutex);
  std::vector<Activity> found = std::move(collected);
  collected.clear();
  std::sort(found.begin(), found.end(),
            [](const Activity& a, const Activity& b) { return a.begin_seconds < b.begin_seconds; });
  return found;
}

} // namespace predictor
