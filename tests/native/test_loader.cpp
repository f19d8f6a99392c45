#include "errors.hpp"
#include "libraries/loader.hpp"

#include <cstdlib>
#include <doctest.h>
#include <filesystem>

using predictor::Library;
using predictor::LibraryName;

namespace {

const LibraryName absent{"nothing", "PREDICTOR_TEST_LIBRARY", "nvidia/*/lib", "libnothing.so.1"};

std::string message_of(const LibraryName& name) {
  try {
    const Library library(name);
  } catch (const predictor::LibraryMissing& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& line, const std::string& part) {
  return line.find(part) != std::string::npos;
}

} // namespace

TEST_SUITE("loader") {
  TEST_CASE("a missing library names its variable and everything that was tried") {
    const std::string message = message_of(absent);
    CHECK(contains(message, "nothing (libnothing.so.1) was not found"));
    CHECK(contains(message, "set PREDICTOR_TEST_LIBRARY"));
    CHECK(contains(message, "libnothing.so.1: "));
  }

  TEST_CASE("the environment overrides the search and its failure is not papered over") {
    setenv("PREDICTOR_TEST_LIBRARY", "/nowhere/libother.so", 1);
    const std::string message = message_of(absent);
    unsetenv("PREDICTOR_TEST_LIBRARY");
    CHECK(contains(message, "/nowhere/libother.so: "));
    CHECK_FALSE(contains(message, "\n  libnothing.so.1"));
  }

  TEST_CASE("a library is found under a folder of the search path, and its real path recorded") {
    namespace fs = std::filesystem;
    const fs::path root = fs::temp_directory_path() / "predictor_loader_test";
    fs::remove_all(root);
    fs::create_directories(root / "nvidia" / "fake" / "lib");
    fs::create_symlink(FAKE_LIBRARY, root / "nvidia" / "fake" / "lib" / "libfake.so.1");
    predictor::set_library_folders({"/nowhere", root.string()});
    const Library library({"fake", "PREDICTOR_TEST_LIBRARY", "nvidia/*/lib", "libfake.so.1"});
    predictor::set_library_folders({});
    fs::remove_all(root);
    CHECK(library.path() == fs::canonical(FAKE_LIBRARY).string());

    int (*version)() = nullptr;
    library.bind(version, "fake_version");
    CHECK(version() == 42);
    CHECK_THROWS_AS(library.bind(version, "fake_absent"), predictor::LibraryMissing);
  }
}
