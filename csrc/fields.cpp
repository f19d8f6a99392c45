#include "fields.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <algorithm>

namespace predictor {
namespace {

[[noreturn]] void reject(std::string_view name, std::string_view rule) {
  throw NativeError(text("field '", name, "' ", rule));
}

struct Describe {
  std::string operator()(const std::vector<std::int64_t>& list) const {
    return text('[', list.size(), ']');
  }
  template <typename T>
  std::string operator()(const T& value) const {
    return text(value);
  }
};

} // namespace

const Fields::Value* Fields::find(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

std::int64_t Fields::integer(std::string_view name) const {
  const Value* value = find(name);
  if (value == nullptr) {
    reject(name, "is missing");
  }
  if (const auto* number = std::get_if<std::int64_t>(value)) {
    return *number;
  }
  reject(name, "must be an integer");
}

std::int64_t Fields::integer(std::string_view name, std::int64_t fallback) const {
  return find(name) == nullptr ? fallback : integer(name);
}

std::int64_t Fields::positive(std::string_view name) const {
  const std::int64_t value = integer(name);
  if (value < 1) {
    reject(name, predictor::text("must be at least 1, not ", value));
  }
  return value;
}

bool Fields::flag(std::string_view name, bool fallback) const {
  const Value* value = find(name);
  if (value == nullptr) {
    return fallback;
  }
  if (const auto* given = std::get_if<bool>(value)) {
    return *given;
  }
  reject(name, "must be true or false");
}

const std::string& Fields::text(std::string_view name) const {
  const Value* value = find(name);
  if (value == nullptr) {
    reject(name, "is missing");
  }
  if (const auto* given = std::get_if<std::string>(value)) {
    return *given;
  }
  reject(name, "must be a string");
}

const std::vector<std::int64_t>& Fields::counts(std::string_view name) const {
  const Value* value = find(name);
  if (value == nullptr) {
    reject(name, "is missing");
  }
  const auto* given = std::get_if<std::vector<std::int64_t>>(value);
  if (given == nullptr || std::any_of(given->begin(), given->end(), [](auto n) { return n < 0; })) {
    reject(name, "must be a list of integers of at least 0");
  }
  return *given;
}

std::string Fields::text(std::string_view name, std::string_view fallback) const {
  return find(name) == nullptr ? std::string(fallback) : text(name);
}

std::string Fields::describe() const {
  std::string line;
  for (const auto& [name, value] : values_) {
    line += line.empty() ? "" : " ";
    line += predictor::text(name, '=', std::visit(Describe{}, value));
  }
  return line;
}

} // namespace predictor
