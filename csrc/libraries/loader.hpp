// Opens NVIDIA's libraries at run time, so that the extension imports on any machine.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace predictor {

// Where a library may be. `folder` is its place under site-packages.
struct LibraryName {
  std::string name;     // "cublaslt", as errors and Device.libraries call it
  std::string variable; // environment variable holding a path
  std::string folder;   // "nvidia/*/lib"
  std::string soname;   // "libcublasLt.so.13"
};

// An opened library. Never closed: CUDA libraries leave threads and exit handlers behind.
class Library {
public:
  // Tries in order: the override, every folder of the search path that holds the soname, and the
  // system's loader. Raises LibraryMissing naming everything that was tried.
  explicit Library(const LibraryName& name);

  [[nodiscard]] const std::string& path() const { return path_; } // real path, links resolved
  [[nodiscard]] void* handle() const { return handle_; }

  // For functions that only newer versions have.
  [[nodiscard]] bool has(const char* name) const;

  // Raises LibraryMissing naming library and symbol.
  [[nodiscard]] void* symbol(const char* name) const;

  template <typename Function>
  void bind(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(symbol(name));
  }

private:
  std::string name_;
  std::string path_;
  void* handle_ = nullptr;
};

// Folders that may hold `nvidia/*/lib`: Python's sys.path, given by the bindings.
void set_library_folders(std::vector<std::string> folders);

} // namespace predictor
