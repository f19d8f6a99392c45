#include "libraries/loader.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <glob.h>
#include <link.h>
#include <mutex>

namespace predictor {
namespace {

std::mutex folders_mutex;
std::vector<std::string> folders;

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  globfree(&found);
  return paths;
}

std::vector<std::string> candidates(const LibraryName& name) {
  const char* given = std::getenv(name.variable.c_str());
  if (given != nullptr && *given != '\0') {
    return {given}; // an override that fails must not be papered over
  }
  std::vector<std::string> paths;
  const std::lock_guard lock(folders_mutex);
  for (const std::string& folder : folders) {
    for (const std::string& path : matches(text(folder, '/', name.folder, '/', name.soname))) {
      paths.push_back(path);
    }
  }
  paths.push_back(name.soname);
  return paths;
}

std::string real_path(void* handle, const std::string& asked) {
  const link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, static_cast<void*>(&map)) != 0 || map == nullptr) {
    return asked;
  }
  std::error_code error;
  const auto resolved = std::filesystem::canonical(map->l_name, error);
  return error ? std::string(map->l_name) : resolved.string();
}

} // namespace

Library::Library(const LibraryName& name) : name_(name.name) {
  std::string tried;
  for (const std::string& path : candidates(name)) {
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) {
      path_ = real_path(handle_, path);
      return;
    }
    const char* reason = dlerror();
    tried += text("\n  ", path, ": ", reason == nullptr ? "unknown reason" : reason);
  }
  throw LibraryMissing(text(name.name, " (", name.soname, ") was not found; install its wheel or ",
                            "set ", name.variable, " to its path.\nTried:", tried));
}

bool Library::has(const char* name) const {
  return dlsym(handle_, name) != nullptr;
}

void* Library::symbol(const char* name) const {
  void* address = dlsym(handle_, name);
  if (address == nullptr) {
    throw LibraryMissing(text(name_, ": ", path_, " has no function ", name));
  }
  return address;
}

void set_library_folders(std::vector<std::string> given) {
  const std::lock_guard lock(folders_mutex);
  folders = std::move(given);
}

} // namespace predictor
