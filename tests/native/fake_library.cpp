// A library for the loader's tests: one function with a C interface.
extern "C" __attribute__((visibility("default"))) int fake_version() {
  return 42;
}
