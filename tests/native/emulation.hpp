// Runs CUDA kernels on the CPU, for tests: one fiber a thread, switched at barriers and shuffles.
//
// Include this before a kernel's header. A kernel whose threads do not all reach a barrier, or that
// shuffles in a warp with finished lanes, raises an error instead of hanging.
#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <functional>
#include <memory>
#include <stdexcept>
#include <ucontext.h>
#include <vector>

namespace emulation {

class Block {
public:
  static constexpr std::size_t lanes = 32;

  // Runs the body once a thread of one block.
  static void run(unsigned threads, const std::function<void()>& body) {
    Block block(threads, body);
    current = &block;
    block.schedule();
    current = nullptr;
  }

  void sync() { pause(State::at_barrier); }

  template <typename T>
  T shuffle_xor(T value, unsigned offset) {
    static_assert(sizeof(T) <= sizeof(double));
    Fiber& self = fibers_[running_];
    std::memcpy(&self.slot, &value, sizeof(T));
    pause(State::at_shuffle); // until all lanes have written
    T other;
    std::memcpy(&other, &fibers_[running_ ^ offset].slot, sizeof(T));
    pause(State::at_shuffle); // until all lanes have read
    return other;
  }

  [[nodiscard]] unsigned thread() const { return static_cast<unsigned>(running_); }

  static inline Block* current = nullptr;

private:
  enum class State { ready, at_barrier, at_shuffle, done };

  // Entered by its context once, then resumed by its jump buffer, which costs no system call.
  struct Fiber {
    ucontext_t context{};
    jmp_buf resume{};
    bool entered = false;
    State state = State::ready;
    double slot = 0.0;
  };

  static constexpr std::size_t stack_bytes = 64 * 1024;
  static inline std::vector<std::unique_ptr<char[]>> stacks; // kept from block to block

  Block(unsigned threads, const std::function<void()>& body) : body_(body), fibers_(threads) {
    if (threads % lanes != 0) {
      throw std::logic_error("a block must be whole warps");
    }
    stacks.resize(std::max(stacks.size(), fibers_.size()));
    for (std::size_t i = 0; i < fibers_.size(); ++i) {
      if (!stacks[i]) {
        stacks[i] = std::make_unique_for_overwrite<char[]>(stack_bytes);
      }
      ucontext_t& context = fibers_[i].context;
      getcontext(&context);
      context.uc_stack.ss_sp = stacks[i].get();
      context.uc_stack.ss_size = stack_bytes;
      context.uc_link = nullptr;
      makecontext(&context, &Block::enter, 0);
    }
  }

  static void enter() {
    current->body_();
    current->fibers_[current->running_].state = State::done;
    _longjmp(current->scheduler_, 1);
  }

  void pause(State state) {
    Fiber& self = fibers_[running_];
    self.state = state;
    if (_setjmp(self.resume) == 0) {
      _longjmp(scheduler_, 1);
    }
  }

  void resume(Fiber& fiber) {
    if (_setjmp(scheduler_) != 0) {
      return; // the fiber paused or finished
    }
    if (fiber.entered) {
      _longjmp(fiber.resume, 1);
    }
    fiber.entered = true;
    setcontext(&fiber.context);
  }

  void schedule() {
    for (;;) {
      for (running_ = 0; running_ < fibers_.size(); ++running_) {
        if (fibers_[running_].state == State::ready) {
          resume(fibers_[running_]);
        }
      }
      if (all(0, fibers_.size(), State::done)) {
        return;
      }
      if (!release()) {
        throw std::logic_error("threads wait for each other: a barrier or shuffle in a branch");
      }
    }
  }

  bool release() {
    bool released = false;
    for (std::size_t first = 0; first < fibers_.size(); first += lanes) {
      released = wake(first, first + lanes, State::at_shuffle) || released;
    }
    return wake(0, fibers_.size(), State::at_barrier) || released;
  }

  bool wake(std::size_t first, std::size_t last, State state) {
    if (!all(first, last, state)) {
      return false;
    }
    for (std::size_t i = first; i < last; ++i) {
      fibers_[i].state = State::ready;
    }
    return true;
  }

  [[nodiscard]] bool all(std::size_t first, std::size_t last, State state) const {
    for (std::size_t i = first; i < last; ++i) {
      if (fibers_[i].state != state) {
        return false;
      }
    }
    return true;
  }

  const std::function<void()>& body_;
  std::vector<Fiber> fibers_;
  jmp_buf scheduler_{};
  std::size_t running_ = 0;
};

inline dim3 block_index;
inline dim3 grid_size;

struct ThreadIndex {
  struct X {
    operator unsigned() const { return Block::current->thread(); }
  };
  X x;
};

inline ThreadIndex thread_index;

// kernel<<<grid, threads>>>(…), with the call as a lambda. Blocks run one after the other.
inline void launch(dim3 grid, unsigned threads, const std::function<void()>& kernel) {
  grid_size = grid;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      block_index = dim3(x, y);
      Block::run(threads, kernel);
    }
  }
}

inline float add_atomically(float* to, float value) {
  const float before = *to;
  *to += value;
  return before;
}

inline int raise_atomically(int* to, int value) {
  const int before = *to;
  *to = std::max(*to, value);
  return before;
}

inline int bits_of(float value) {
  int bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

} // namespace emulation

#define blockIdx ::emulation::block_index
#define gridDim ::emulation::grid_size
#define threadIdx ::emulation::thread_index
#define __syncthreads() ::emulation::Block::current->sync()
#define __shfl_xor_sync(mask, value, offset)                                                       \
  ::emulation::Block::current->shuffle_xor((value), static_cast<unsigned>(offset))
#define atomicAdd ::emulation::add_atomically
#define atomicMax ::emulation::raise_atomically
#define __float_as_int ::emulation::bits_of
#define __expf(x) std::exp(static_cast<float>(x))
#define rsqrtf(x) (1.0f / std::sqrt(static_cast<float>(x)))
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)
