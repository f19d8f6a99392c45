#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace predictor {

// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
class Noise {
public:
  explicit Noise(std::uint64_t seed) : state_(seed) {}

  double normal() { // Box-Muller
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

private:
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

// FNV-1a: the same on every platform, unlike std::hash.
inline std::uint64_t hash_of(std::string_view line) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : line) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  return hash;
}

} // namespace predictor
