// Exact patterns for the check of collectives: small integers that are a function of the rank that
// sends them and of their place, so that every sum is exact in bf16 and a misplaced element shows.
#pragma once

#include "cuda/primitives.hpp"

#include <cstdint>

#ifdef __CUDACC__
#define PREDICTOR_BOTH_SIDES __host__ __device__
#else
#define PREDICTOR_BOTH_SIDES
#endif

namespace predictor {

struct Pattern {
  std::uint64_t seed = 0;
  int ranks = 1;
};

// What a buffer should hold after the collective. Element j is the sum over all ranks of their
// element `offset` + j, or, of blocks of `part` elements, element `offset` + j % part of the rank
// `first_source` + j / part.
struct Arrangement {
  std::int64_t count = 0;
  std::int64_t offset = 0;
  std::int64_t part = 1;
  int first_source = 0;
  bool summed = false;
};

// bf16 holds whole numbers up to 256: partial sums stay within that up to 256 ranks.
PREDICTOR_BOTH_SIDES constexpr int largest_value(int ranks) {
  const int bound = 256 / (ranks < 1 ? 1 : ranks);
  return bound > 8 ? 8 : bound < 1 ? 1 : bound;
}

PREDICTOR_BOTH_SIDES constexpr int pattern_value(const Pattern& pattern, int rank,
                                                 std::int64_t index) {
  std::uint64_t z = pattern.seed * 0xd1342543de82ef95ULL +
                    static_cast<std::uint64_t>(rank + 1) * 0x9e3779b97f4a7c15ULL +
                    static_cast<std::uint64_t>(index) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 31)) * 0x94d049bb133111ebULL;
  const int bound = largest_value(pattern.ranks);
  const auto width = static_cast<std::uint64_t>(2 * bound + 1);
  return static_cast<int>((z >> 33) % width) - bound;
}

PREDICTOR_BOTH_SIDES constexpr int
expected_value(const Pattern& pattern, const Arrangement& arrangement, std::int64_t index) {
  if (arrangement.summed) {
    int sum = 0;
    for (int rank = 0; rank < pattern.ranks; ++rank) {
      sum += pattern_value(pattern, rank, arrangement.offset + index);
    }
    return sum;
  }
  const int source = arrangement.first_source + static_cast<int>(index / arrangement.part);
  return pattern_value(pattern, source, arrangement.offset + index % arrangement.part);
}

// data[i] = the pattern's value of `rank` at i. bf16, fp16 or fp32.
void write_pattern(void* data, DataType type, std::int64_t count, const Pattern& pattern, int rank,
                   cudaStream_t stream);

// Adds to *mismatches the number of elements that are not as arranged.
void count_mismatches(const void* data, DataType type, const Pattern& pattern,
                      const Arrangement& arrangement, unsigned long long* mismatches,
                      cudaStream_t stream);

} // namespace predictor
