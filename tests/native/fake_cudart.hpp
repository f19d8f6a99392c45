// A CUDA runtime without a GPU, for tests of the backend's host code: memory is the host's, a
// stream runs its work at once on a virtual clock, and a captured graph keeps its work for replays.
#pragma once

#include <cstddef>
#include <functional>

namespace fake {

// The runtime's state, new for every test.
struct Runtime {
  std::size_t free_bytes = std::size_t{4} << 30;
  double clock_seconds = 0.0;
  bool hangs = false;          // queries answer "not ready" for ever
  int next_error = 0;          // a cudaError_t that the next query reports
  std::size_t allocations = 0; // alive
};

Runtime& runtime();

// What a kernel launch would do: runs now, or with the graph that is being captured.
void enqueue(double seconds, std::function<void()> work);

} // namespace fake
