// The fields of an operator as Python hands them over, with typed access by name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace predictor {

class Fields {
public:
  using Value = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>>;

  Fields() = default;
  explicit Fields(std::map<std::string, Value, std::less<>> values) : values_(std::move(values)) {}

  // Each raises NativeError naming the field when it is absent or of another type.
  [[nodiscard]] std::int64_t integer(std::string_view name) const;
  [[nodiscard]] std::int64_t integer(std::string_view name, std::int64_t fallback) const;
  // An integer of at least 1.
  [[nodiscard]] std::int64_t positive(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name, bool fallback) const;
  [[nodiscard]] const std::string& text(std::string_view name) const;
  [[nodiscard]] std::string text(std::string_view name, std::string_view fallback) const;

  // Integers of at least 0.
  [[nodiscard]] const std::vector<std::int64_t>& counts(std::string_view name) const;

  // "m=4096 n=1024 dtype=bf16", in the order of the names; of a list only its length.
  [[nodiscard]] std::string describe() const;

private:
  [[nodiscard]] const Value* find(std::string_view name) const;

  std::map<std::string, Value, std::less<>> values_;
};

} // namespace predictor
