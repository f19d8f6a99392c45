// NCCL without a GPU, for tests of the calls that are made to it: memory is the host's, all ranks
// are in one thread, and a collective is done when the last of its ranks has called.
#include "failing.hpp"

#include <cstddef>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

struct Id {
  char bytes[128];
};

struct Config {
  std::size_t size;
  unsigned int magic;
  unsigned int version;
  int blocking;
  int cga_cluster_size;
  int min_ctas;
  int max_ctas;
};

struct Message {
  int peer;
  const char* from;
  char* to;
  std::size_t bytes;
};

// One rank's part of one collective.
struct Call {
  std::string name;
  const char* send = nullptr;
  char* receive = nullptr;
  std::size_t count = 0;
  int type = 0;
  std::vector<Message> sends;
  std::vector<Message> receives;
};

struct Group {
  std::vector<std::deque<Call>> calls; // by rank
};

struct Communicator {
  std::shared_ptr<Group> group;
  int rank = 0;
};

std::map<std::string, std::shared_ptr<Group>> groups;
std::map<Communicator*, Call> open_calls; // of the group of sends and receives that is being built
bool grouping = false;
int ids = 0;
int destroyed = 0;
int aborted = 0;
int last_max_ctas = 0;
int next_result = 0; // that the next call reports
bool dropping = false;
void (*enqueue)(std::function<void()>) = nullptr;

#define FAILS_ON_DEMAND(name)                                                                      \
  if (const int due = failing::called(#name); due != 0)                                            \
  return due

constexpr int float32 = 7;

std::size_t size_of(int type) {
  return type == float32 ? 4 : 2;
}

// bf16 as the upper half of a float; sums of small integers are exact.
float read(const char* data, std::size_t index, int type) {
  unsigned int bits = 0;
  if (type == float32) {
    std::memcpy(&bits, data + 4 * index, 4);
  } else {
    unsigned short half = 0;
    std::memcpy(&half, data + 2 * index, 2);
    bits = static_cast<unsigned int>(half) << 16;
  }
  float value = 0.0f;
  std::memcpy(&value, &bits, 4);
  return value;
}

void write(char* data, std::size_t index, int type, float value) {
  unsigned int bits = 0;
  std::memcpy(&bits, &value, 4);
  if (type == float32) {
    std::memcpy(data + 4 * index, &bits, 4);
  } else {
    const auto half = static_cast<unsigned short>(bits >> 16);
    std::memcpy(data + 2 * index, &half, 2);
  }
}

std::vector<float> sum(const std::vector<Call>& calls, std::size_t elements) {
  std::vector<float> total(elements, 0.0f);
  for (const Call& call : calls) {
    for (std::size_t i = 0; i < elements; ++i) {
      total[i] += read(call.send, i, call.type);
    }
  }
  return total;
}

void exchange(const std::vector<Call>& calls) {
  for (std::size_t to = 0; to < calls.size(); ++to) {
    for (const Message& receive : calls[to].receives) {
      for (const Message& send : calls[static_cast<std::size_t>(receive.peer)].sends) {
        if (send.peer == static_cast<int>(to) && send.bytes == receive.bytes) {
          std::memcpy(receive.to, send.from, send.bytes);
        }
      }
    }
  }
}

void carry_out(const std::vector<Call>& calls) {
  const Call& first = calls.front();
  const std::size_t bytes = first.count * size_of(first.type);
  if (first.name == "all_reduce" || first.name == "reduce_scatter") {
    const bool scattered = first.name == "reduce_scatter";
    const auto total = sum(calls, first.count * (scattered ? calls.size() : 1));
    for (std::size_t rank = 0; rank < calls.size(); ++rank) {
      for (std::size_t i = 0; i < first.count; ++i) {
        write(calls[rank].receive, i, first.type, total[i + (scattered ? rank * first.count : 0)]);
      }
    }
  } else if (first.name == "all_gather") {
    std::vector<char> gathered(bytes * calls.size());
    for (std::size_t rank = 0; rank < calls.size(); ++rank) {
      std::memcpy(gathered.data() + rank * bytes, calls[rank].send, bytes);
    }
    for (const Call& call : calls) {
      std::memcpy(call.receive, gathered.data(), gathered.size());
    }
  } else if (first.name == "broadcast") {
    for (const Call& call : calls) {
      std::memmove(call.receive, first.send, bytes);
    }
  } else {
    exchange(calls);
  }
}

void arrive(Group& group, int rank, Call call) {
  group.calls[static_cast<std::size_t>(rank)].push_back(std::move(call));
  for (const auto& queue : group.calls) {
    if (queue.empty()) {
      return;
    }
  }
  std::vector<Call> calls;
  for (auto& queue : group.calls) {
    calls.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  if (!dropping) {
    carry_out(calls);
  }
}

int submit(Communicator* communicator, const Call& call) {
  if (next_result != 0) {
    return std::exchange(next_result, 0);
  }
  enqueue([group = communicator->group, rank = communicator->rank, call] {
    arrive(*group, rank, call);
  });
  return 0;
}

int collective(const char* name, const void* send, void* receive, std::size_t count, int type,
               void* communicator) {
  Call call;
  call.name = name;
  call.send = static_cast<const char*>(send);
  call.receive = static_cast<char*>(receive);
  call.count = count;
  call.type = type;
  return submit(static_cast<Communicator*>(communicator), call);
}

} // namespace

// --- what tests set and look at
EXPORTED void fake_nccl_reset(void (*hook)(std::function<void()>)) {
  groups.clear();
  open_calls.clear();
  fake_reset();
  grouping = dropping = false;
  destroyed = aborted = next_result = last_max_ctas = 0;
  enqueue = hook;
}
EXPORTED void fake_nccl_fail(int result) {
  next_result = result;
}
EXPORTED void fake_nccl_drop() {
  dropping = true;
}
EXPORTED int fake_nccl_destroyed() {
  return destroyed;
}
EXPORTED int fake_nccl_aborted() {
  return aborted;
}
EXPORTED int fake_nccl_max_ctas() {
  return last_max_ctas;
}

// --- NCCL's interface, as far as it is called
EXPORTED int ncclGetVersion(int* version) {
  FAILS_ON_DEMAND(ncclGetVersion);
  *version = 22809;
  return 0;
}
EXPORTED int ncclGetUniqueId(Id* id) {
  FAILS_ON_DEMAND(ncclGetUniqueId);
  std::memset(id->bytes, ++ids, sizeof(id->bytes));
  return 0;
}
EXPORTED int ncclCommInitRankConfig(void** handle, int ranks, Id id, int rank, Config* config) {
  FAILS_ON_DEMAND(ncclCommInitRankConfig);
  if (config->magic != 0xcafebeef || rank < 0 || rank >= ranks) {
    return 4;
  }
  last_max_ctas = config->max_ctas;
  auto& group = groups[std::string(id.bytes, sizeof(id.bytes))];
  if (!group) {
    group = std::make_shared<Group>();
    group->calls.resize(static_cast<std::size_t>(ranks));
  }
  *handle = new Communicator{group, rank};
  return 0;
}
EXPORTED int ncclCommDestroy(void* communicator) {
  ++destroyed;
  delete static_cast<Communicator*>(communicator);
  return failing::called("ncclCommDestroy");
}
EXPORTED int ncclCommAbort(void* communicator) {
  ++aborted;
  delete static_cast<Communicator*>(communicator);
  return failing::called("ncclCommAbort");
}
EXPORTED int ncclCommGetAsyncError(void*, int* result) {
  FAILS_ON_DEMAND(ncclCommGetAsyncError);
  *result = 0;
  return 0;
}
EXPORTED const char* ncclGetErrorString(int) {
  return "fake error";
}
EXPORTED const char* ncclGetLastError(void*) {
  return "as asked for";
}
EXPORTED int ncclGroupStart() {
  FAILS_ON_DEMAND(ncclGroupStart);
  grouping = true;
  open_calls.clear();
  return 0;
}
EXPORTED int ncclGroupEnd() {
  FAILS_ON_DEMAND(ncclGroupEnd);
  grouping = false;
  for (auto& [communicator, call] : open_calls) {
    if (const int result = submit(communicator, call); result != 0) {
      return result;
    }
  }
  return 0;
}
EXPORTED int ncclAllReduce(const void* send, void* receive, std::size_t count, int type, int,
                           void* communicator, void*) {
  FAILS_ON_DEMAND(ncclAllReduce);
  return collective("all_reduce", send, receive, count, type, communicator);
}
EXPORTED int ncclAllGather(const void* send, void* receive, std::size_t count, int type,
                           void* communicator, void*) {
  FAILS_ON_DEMAND(ncclAllGather);
  return collective("all_gather", send, receive, count, type, communicator);
}
EXPORTED int ncclReduceScatter(const void* send, void* receive, std::size_t count, int type, int,
                               void* communicator, void*) {
  FAILS_ON_DEMAND(ncclReduceScatter);
  return collective("reduce_scatter", send, receive, count, type, communicator);
}
EXPORTED int ncclBroadcast(const void* send, void* receive, std::size_t count, int type, int,
                           void* communicator, void*) {
  FAILS_ON_DEMAND(ncclBroadcast);
  return collective("broadcast", send, receive, count, type, communicator);
}
EXPORTED int ncclSend(const void* data, std::size_t count, int type, int peer, void* communicator,
                      void*) {
  FAILS_ON_DEMAND(ncclSend);
  open_calls[static_cast<Communicator*>(communicator)].sends.push_back(
      {peer, static_cast<const char*>(data), nullptr, count * size_of(type)});
  return grouping ? 0 : 5;
}
EXPORTED int ncclRecv(void* data, std::size_t count, int type, int peer, void* communicator,
                      void*) {
  FAILS_ON_DEMAND(ncclRecv);
  open_calls[static_cast<Communicator*>(communicator)].receives.push_back(
      {peer, nullptr, static_cast<char*>(data), count * size_of(type)});
  return grouping ? 0 : 5;
}
