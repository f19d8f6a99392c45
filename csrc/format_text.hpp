// Messages: text("m (", m, ") is odd") streams its arguments into one string.
#pragma once

#include <ios>
#include <sstream>
#include <string>

namespace predictor {

template <typename... Parts>
[[nodiscard]] std::string text(const Parts&... parts) {
  std::ostringstream line;
  line << std::boolalpha;
  (line << ... << parts);
  return line.str();
}

} // namespace predictor
