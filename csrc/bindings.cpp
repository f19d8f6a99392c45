// Table of contents of predictor._native; the only file that knows Python.
#include "backends.hpp"
#include "device.hpp"
#include "errors.hpp"
#include "harness/beside.hpp"
#include "harness/lockstep.hpp"
#include "harness/policy.hpp"
#include "harness/sampler.hpp"
#include "harness/timers.hpp"
#include "harness/trace.hpp"
#include "libraries/loader.hpp"

#include <memory>
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <string>
#include <utility>

namespace py = pybind11;
using namespace predictor;

namespace {

// Part of the runner's resume key: raise it when a change alters what is measured.
constexpr int harness_version = 1;

Fields to_fields(const py::dict& given) {
  std::map<std::string, Fields::Value, std::less<>> values;
  for (const auto& [key, value] : given) {
    const auto name = py::cast<std::string>(key);
    if (py::isinstance<py::bool_>(value)) { // before int, of which bool is a kind
      values[name] = py::cast<bool>(value);
    } else if (py::isinstance<py::int_>(value)) {
      values[name] = py::cast<std::int64_t>(value);
    } else if (py::isinstance<py::float_>(value)) {
      values[name] = py::cast<double>(value);
    } else if (py::isinstance<py::str>(value)) {
      values[name] = py::cast<std::string>(value);
    } else if (py::isinstance<py::list>(value)) {
      values[name] = py::cast<std::vector<std::int64_t>>(value);
    } else {
      throw py::type_error("field '" + name + "' must be a bool, int, float, str or list of int");
    }
  }
  return Fields(std::move(values));
}

Cache to_cache(const std::string& name) {
  if (name == "cold" || name == "warm") {
    return name == "cold" ? Cache::cold : Cache::warm;
  }
  throw py::value_error("cache ('" + name + "') must be 'cold' or 'warm'");
}

std::shared_ptr<Device> open_device(const std::string& kind, int index, std::uint64_t seed,
                                    bool separate_buffers) {
  set_library_folders(py::module_::import("sys").attr("path").cast<std::vector<std::string>>());
  if (kind == "mock") {
    return make_mock_device(seed);
  }
  if (kind == "cuda") {
    return make_cuda_device(index, separate_buffers);
  }
  throw py::value_error("kind ('" + kind + "') must be 'cuda' or 'mock'");
}

// The callable is called and destroyed under the GIL, whichever thread does it.
std::function<void()> holding_gil(py::function launch) {
  std::shared_ptr<py::function> shared(new py::function(std::move(launch)), [](py::function* f) {
    const py::gil_scoped_acquire gil;
    delete f;
  });
  return [shared] {
    const py::gil_scoped_acquire gil;
    (*shared)();
  };
}

std::unique_ptr<Workload> prepare(Device& device, const std::string& op, const py::dict& fields,
                                  double flops, double bytes, double working_set_bytes,
                                  const std::string& cache) {
  const Request request{.op = op,
                        .fields = to_fields(fields),
                        .flops = flops,
                        .bytes = bytes,
                        .working_set_bytes = working_set_bytes,
                        .cache = to_cache(cache)};
  const py::gil_scoped_release release;
  auto workload = device.prepare(request);
  workload->device = &device;
  return workload;
}

void foresee(Device& device, const std::vector<std::pair<std::string, py::dict>>& coming) {
  std::vector<Request> requests;
  for (const auto& [op, fields] : coming) {
    requests.push_back({.op = op, .fields = to_fields(fields)});
  }
  const py::gil_scoped_release release;
  device.foresee(requests);
}

std::unique_ptr<Workload> prepare_callable(Device& device, py::function launch,
                                           std::int64_t launches_per_call, double seconds_hint) {
  if (launches_per_call < 1) {
    throw py::value_error("launches_per_call (" + std::to_string(launches_per_call) +
                          ") must be at least 1");
  }
  auto workload = device.prepare_callable(
      holding_gil(std::move(launch)), static_cast<std::size_t>(launches_per_call), seconds_hint);
  workload->device = &device;
  return workload;
}

void require_own(const Device& device, const Workload& workload) {
  if (workload.device != &device) {
    throw py::value_error("the workload (" + workload.description +
                          ") was prepared by another device");
  }
}

Round sample_workload(Device& device, Workload& workload, const SamplingPolicy& policy) {
  require_own(device, workload);
  const py::gil_scoped_release release;
  return sample(device, workload, policy);
}

double check_workload(Device& device, Workload& workload, std::uint64_t seed) {
  require_own(device, workload);
  const py::gil_scoped_release release;
  return check(device, workload, seed);
}

Trace trace_workload(Device& device, Workload& workload) {
  require_own(device, workload);
  const py::gil_scoped_release release;
  return trace(device, workload, SamplingPolicy{}.timeout_seconds);
}

py::bytes new_group_id(Device& device) {
  return device.new_group_id();
}

void join(Device& device, const std::string& name, const py::bytes& id, int ranks, int rank,
          int max_ctas) {
  const Membership membership{
      .name = name, .id = id, .ranks = ranks, .rank = rank, .max_ctas = max_ctas};
  const py::gil_scoped_release release;
  device.join(membership);
}

double probe_workload(Device& device, Workload& workload, Workload& aligner, std::size_t enqueues,
                      double timeout_seconds) {
  require_own(device, workload);
  require_own(device, aligner);
  const py::gil_scoped_release release;
  return probe(device, workload, aligner, enqueues, timeout_seconds);
}

LockstepRound lockstep(Device& device, Workload& workload, Workload& aligner, bool graph,
                       double seconds, std::size_t enqueues_per_sample, std::size_t samples,
                       double timeout_seconds) {
  require_own(device, workload);
  require_own(device, aligner);
  const LockstepPlan plan{.timer = graph ? Timer::graph : Timer::gated,
                          .seconds = seconds,
                          .enqueues_per_sample = enqueues_per_sample,
                          .samples = samples,
                          .timeout_seconds = timeout_seconds};
  const py::gil_scoped_release release;
  return sample_lockstep(device, workload, aligner, plan);
}

BesideRound beside(Device& device, Workload& compute, Workload& collective, Workload& aligner,
                   std::size_t compute_calls, std::size_t collective_calls, std::size_t intervals,
                   double timeout_seconds) {
  for (const Workload* workload : {&compute, &collective, &aligner}) {
    require_own(device, *workload);
  }
  const BesidePlan plan{.compute_calls = compute_calls,
                        .collective_calls = collective_calls,
                        .intervals = intervals,
                        .timeout_seconds = timeout_seconds};
  const py::gil_scoped_release release;
  return sample_beside(device, compute, collective, aligner, plan);
}

void synchronize(Device& device) {
  device.begin_operation();
  device.wait(SamplingPolicy{}.timeout_seconds);
}

std::map<std::string, double> host_costs(Device& device, std::size_t samples) {
  const py::gil_scoped_release release;
  return device.host_costs(samples);
}

py::dict libraries(Device& device) {
  py::dict found;
  for (const auto& [name, info] : device.libraries()) {
    py::dict entry;
    entry["path"] = info.path;
    entry["version"] = info.version;
    entry["error"] = info.error;
    found[py::str(name)] = entry;
  }
  return found;
}

std::string timer_of(const Workload& workload) {
  return workload.calibration ? std::string(timer_name(workload.calibration->timer)) : "";
}

std::string find_library(const std::string& name, const std::string& variable,
                         const std::string& soname) {
  set_library_folders(py::module_::import("sys").attr("path").cast<std::vector<std::string>>());
  return Library({name, variable, "nvidia/*/lib", soname}).path();
}

void bind_errors(py::module_& m) {
  const auto base = py::register_exception<NativeError>(m, "NativeError", PyExc_RuntimeError);
  py::register_exception<OutOfDeviceMemory>(m, "OutOfDeviceMemory", base);
  py::register_exception<Unsupported>(m, "Unsupported", base);
  py::register_exception<DeviceFault>(m, "DeviceFault", base);
  py::register_exception<LibraryMissing>(m, "LibraryMissing", base);
  py::register_exception<DeviceTimeout>(m, "DeviceTimeout", base);
}

void bind_policy(py::module_& m) {
  const SamplingPolicy defaults;
  py::class_<SamplingPolicy>(m, "SamplingPolicy", "How long to sample; see validate().")
      .def(py::init([](double round_seconds, std::size_t min_samples, std::size_t max_samples,
                       double relative_half_width, double short_relative_half_width,
                       double sustained_seconds, double timeout_seconds) {
             const SamplingPolicy policy{.round_seconds = round_seconds,
                                         .min_samples = min_samples,
                                         .max_samples = max_samples,
                                         .relative_half_width = relative_half_width,
                                         .short_relative_half_width = short_relative_half_width,
                                         .sustained_seconds = sustained_seconds,
                                         .timeout_seconds = timeout_seconds};
             validate(policy);
             return policy;
           }),
           py::kw_only(), py::arg("round_seconds") = defaults.round_seconds,
           py::arg("min_samples") = defaults.min_samples,
           py::arg("max_samples") = defaults.max_samples,
           py::arg("relative_half_width") = defaults.relative_half_width,
           py::arg("short_relative_half_width") = defaults.short_relative_half_width,
           py::arg("sustained_seconds") = defaults.sustained_seconds,
           py::arg("timeout_seconds") = defaults.timeout_seconds)
      .def_readonly("round_seconds", &SamplingPolicy::round_seconds)
      .def_readonly("min_samples", &SamplingPolicy::min_samples)
      .def_readonly("max_samples", &SamplingPolicy::max_samples)
      .def_readonly("relative_half_width", &SamplingPolicy::relative_half_width)
      .def_readonly("short_relative_half_width", &SamplingPolicy::short_relative_half_width)
      .def_readonly("sustained_seconds", &SamplingPolicy::sustained_seconds)
      .def_readonly("timeout_seconds", &SamplingPolicy::timeout_seconds);
}

void bind_round(py::module_& m) {
  py::class_<Round>(m, "Round", "What one round of sampling found; seconds are per launch.")
      .def_readonly("samples_seconds", &Round::samples_seconds)
      .def_readonly("median_seconds", &Round::median_seconds)
      .def_readonly("low_seconds", &Round::low_seconds)
      .def_readonly("high_seconds", &Round::high_seconds)
      .def_readonly("mad_seconds", &Round::mad_seconds)
      .def_readonly("p10_seconds", &Round::p10_seconds)
      .def_readonly("p90_seconds", &Round::p90_seconds)
      .def_readonly("lag1_autocorrelation", &Round::lag1_autocorrelation)
      .def_readonly("drift", &Round::drift)
      .def_readonly("timer", &Round::timer)
      .def_readonly("stop_reason", &Round::stop_reason)
      .def_readonly("launches", &Round::launches)
      .def_readonly("wall_begin_seconds", &Round::wall_begin_seconds)
      .def_readonly("wall_end_seconds", &Round::wall_end_seconds)
      .def_readonly("tail_begin_seconds", &Round::tail_begin_seconds);
}

void bind_trace(py::module_& m) {
  py::class_<Trace>(m, "Trace", "What the profiler saw of one workload.")
      .def_readonly("seconds", &Trace::seconds)
      .def_readonly("activities", &Trace::activities);
}

void bind_rounds_of_ranks(py::module_& m) {
  py::class_<LockstepRound>(m, "LockstepRound", "One rank's samples; seconds are per launch.")
      .def_readonly("samples_seconds", &LockstepRound::samples_seconds)
      .def_readonly("launches", &LockstepRound::launches)
      .def_readonly("gate_expired", &LockstepRound::gate_expired)
      .def_readonly("wall_begin_seconds", &LockstepRound::wall_begin_seconds)
      .def_readonly("wall_end_seconds", &LockstepRound::wall_end_seconds);
  py::class_<BesideRound>(m, "BesideRound",
                          "One rank's intervals of both sides, per call; negative where the other "
                          "side was not running.")
      .def_readonly("compute_seconds", &BesideRound::compute_seconds)
      .def_readonly("collective_seconds", &BesideRound::collective_seconds)
      .def_readonly("wall_begin_seconds", &BesideRound::wall_begin_seconds)
      .def_readonly("wall_end_seconds", &BesideRound::wall_end_seconds);
}

void bind_device(py::module_& m) {
  py::class_<Workload>(m, "Workload", "Something to launch again and again on its device.")
      .def_readonly("description", &Workload::description)
      .def_readonly("buffer_sets", &Workload::buffer_sets)
      .def_property_readonly("timer", &timer_of, "Empty before the first sample.");

  py::class_<Device, std::shared_ptr<Device>>(m, "Device", "A GPU, or the mock without one.")
      .def(py::init(&open_device), py::arg("kind"), py::arg("index") = 0, py::kw_only(),
           py::arg("seed") = 0, py::arg("separate_buffers") = false)
      .def_property_readonly("properties", &Device::properties)
      .def_property_readonly("libraries", &libraries)
      .def_property_readonly("stream_handle", &Device::stream_handle)
      .def("prepare", &prepare, py::keep_alive<0, 1>(), py::arg("operator"), py::arg("fields"),
           py::kw_only(), py::arg("flops"), py::arg("bytes"), py::arg("working_set_bytes"),
           py::arg("cache"))
      .def("foresee", &foresee, py::arg("coming"),
           "Operators and fields that prepare() will be given soon: their plans are begun, beside "
           "other work.")
      .def("prepare_callable", &prepare_callable, py::keep_alive<0, 1>(), py::arg("launch"),
           py::kw_only(), py::arg("launches_per_call"), py::arg("seconds_hint") = 0.0)
      .def("sample", &sample_workload, py::arg("workload"), py::arg("policy"),
           "One round of samples; releases the GIL.")
      .def("check", &check_workload, py::arg("workload"), py::arg("seed") = 0,
           "Relative Frobenius error of the timed launches against a reference in double.")
      .def("trace", &trace_workload, py::arg("workload"),
           "Kernel time by the profiler; sample nothing in this process afterwards.")
      .def("host_costs", &host_costs, py::kw_only(), py::arg("samples"),
           "Seconds of the runtime's own calls by quantity, medians of that many samples.")
      .def("new_group_id", &new_group_id, "Bytes that every rank of a new group must be given.")
      .def("join", &join, py::arg("name"), py::arg("id"), py::kw_only(), py::arg("ranks"),
           py::arg("rank"), py::arg("max_ctas") = 0,
           "Returns once all ranks of the group have joined; releases the GIL.")
      .def("leave", &Device::leave, py::arg("name"), py::call_guard<py::gil_scoped_release>())
      .def("probe", &probe_workload, py::arg("workload"), py::arg("aligner"), py::kw_only(),
           py::arg("enqueues"), py::arg("timeout_seconds"),
           "Seconds of one launch; every rank must call it with the same counts.")
      .def("sample_lockstep", &lockstep, py::arg("workload"), py::arg("aligner"), py::kw_only(),
           py::arg("graph"), py::arg("seconds"), py::arg("enqueues_per_sample"), py::arg("samples"),
           py::arg("timeout_seconds"),
           "A round of a fixed number of samples; every rank must call it alike.")
      .def("sample_beside", &beside, py::arg("compute"), py::arg("collective"), py::arg("aligner"),
           py::kw_only(), py::arg("compute_calls"), py::arg("collective_calls"),
           py::arg("intervals"), py::arg("timeout_seconds"),
           "Both sides looped on streams of their own; a side of 0 calls stays idle.")
      .def("synchronize", &synchronize, py::call_guard<py::gil_scoped_release>())
      .def("inject", &Device::inject, py::arg("what"), py::arg("at_call"),
           "Mock only: fail the at_call-th (from 1) prepare ('oom'), or sample or check ('fault', "
           "'hang', 'throw'), or trace ('blind').");
}

} // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Measures operators on a GPU, or on a mock with a virtual clock.";
  bind_errors(m);
  bind_policy(m);
  bind_round(m);
  bind_trace(m);
  bind_rounds_of_ranks(m);
  bind_device(m);
  m.def("cuda_device_count", &cuda_device_count, "GPUs that CUDA sees; 0 without a driver.");
  m.def("find_library", &find_library, py::arg("name"), py::arg("variable"), py::arg("soname"),
        "Path of a library opened as the operators open theirs.");
  py::dict build;
  build["cuda"] = built_with_cuda;
  build["gemm"] = built_with_gemm;
  build["attention"] = built_with_attention;
  build["version"] = harness_version;
  m.attr("build") = build;
}
