// Calls of a fake library that fail on demand, one after another: what every fake library exports.
#pragma once

#include <map>
#include <string>

namespace failing {

inline std::map<std::string, int> calls; // since the last reset
inline std::string call;                 // whose call number `at`, from 1 on, reports `status`
inline int at = 0;
inline int status = 0;

// Counts a call; the status that it is to report.
inline int called(const char* name) {
  return ++calls[name] == at && call == name ? status : 0;
}

} // namespace failing

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED void fake_reset() {
  failing::calls.clear();
}
// Stands across resets, which count the calls anew.
EXPORTED void fake_fail_at(const char* name, int at, int status) {
  failing::call = name;
  failing::at = at;
  failing::status = status;
}
EXPORTED int fake_calls(const char* name) {
  return failing::calls[name];
}
