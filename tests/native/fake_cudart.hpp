// A CUDA runtime without a GPU, for tests of the backend's host code: memory is the host's, a
// stream runs its work at once on a virtual clock, and a captured graph keeps its work for replays.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>

namespace fake {

// The runtime's state, new for every test.
struct Runtime {
  std::size_t free_bytes = std::size_t{4} << 30;
  double clock_seconds = 0.0;
  bool hangs = false;          // queries answer "not ready" for ever
  int next_error = 0;          // a cudaError_t that the next query reports
  std::size_t allocations = 0; // alive

  std::map<std::string, std::size_t, std::less<>> calls; // so far, by the function's name
  std::string fail_call;                                 // whose call number `fail_at`, from 1 on,
  std::size_t fail_at = 0;                               // reports `fail_with`
  int fail_with = 0;
};

Runtime& runtime();

// What a kernel launch would do: runs now, or with the graph that is being captured.
void enqueue(double seconds, std::function<void()> work);

} // namespace fake
