// What can go wrong, one type a cause. bindings.cpp turns each into a Python exception.
#pragma once

#include <stdexcept>

namespace predictor {

struct NativeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The device has too little free memory; nothing was changed and the device goes on working.
struct OutOfDeviceMemory : NativeError {
  using NativeError::NativeError;
};

// The request is well formed, but this build, library or GPU cannot serve it.
struct Unsupported : NativeError {
  using NativeError::NativeError;
};

// A sticky error: every later call of this process fails too, so the process must end.
struct DeviceFault : NativeError {
  using NativeError::NativeError;
};

// A shared library, or a symbol of it, was not found.
struct LibraryMissing : NativeError {
  using NativeError::NativeError;
};

// The host's watchdog gave up waiting for the device; the process must end.
struct DeviceTimeout : NativeError {
  using NativeError::NativeError;
};

} // namespace predictor
