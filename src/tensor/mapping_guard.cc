#include "tensor/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <mutex>

namespace mrt {

/// An entry of the list that the signal handler reads. Entries are used again but never freed, and
/// they change under a version number (odd: being changed), so the handler needs no lock.
struct GuardedMapping {
  std::atomic<uint32_t> version = 0;
  std::atomic<uintptr_t> begin = 0;
  std::atomic<uintptr_t> end = 0;  // 0: free
  std::atomic<bool> damaged = false;
  GuardedMapping* next = nullptr;

  void Set(uintptr_t new_begin, uintptr_t new_end) {
    version.fetch_add(1, std::memory_order_acq_rel);
    begin.store(new_begin, std::memory_order_release);
    end.store(new_end, std::memory_order_release);
    version.fetch_add(1, std::memory_order_release);
  }

  /// The end of the mapping if `address` is inside, else 0. An entry that changes meanwhile is not
  /// the one of the faulting thread, which still needs its mapping.
  uintptr_t EndIfInside(uintptr_t address) const {
    const uint32_t before = version.load(std::memory_order_acquire);
    const uintptr_t b = begin.load(std::memory_order_acquire);
    const uintptr_t e = end.load(std::memory_order_acquire);
    const bool steady = before % 2 == 0 && version.load(std::memory_order_acquire) == before;
    return steady && b <= address && address < e ? e : 0;
  }
};

namespace {

std::mutex g_changes;  // held by guards that come and go, never by the handler
std::atomic<GuardedMapping*> g_mappings = nullptr;
struct sigaction g_earlier = {};
uintptr_t g_page_bytes = 0;

static_assert(std::atomic<uintptr_t>::is_always_lock_free &&
              std::atomic<GuardedMapping*>::is_always_lock_free);

/// Only what may run in a signal handler: atomics and bare system calls.
bool PutZerosAt(uintptr_t address) {
  for (GuardedMapping* m = g_mappings.load(std::memory_order_acquire); m != nullptr; m = m->next) {
    const uintptr_t end = m->EndIfInside(address);
    if (end == 0) continue;
    const uintptr_t page = address / g_page_bytes * g_page_bytes;
    m->damaged.store(true, std::memory_order_release);
    void* const at = reinterpret_cast<void*>(page);  // NOLINT(performance-no-int-to-ptr)
    return mmap(at, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                -1, 0) != MAP_FAILED;
  }
  return false;
}

void HandOn(int signal, siginfo_t* info, void* context) {
  if (g_earlier.sa_flags & SA_SIGINFO) return g_earlier.sa_sigaction(signal, info, context);
  const bool has_handler = g_earlier.sa_handler != SIG_DFL && g_earlier.sa_handler != SIG_IGN;
  if (has_handler) return g_earlier.sa_handler(signal);
  // A fault repeats when this returns; a signal that somebody sent has to be sent again.
  const bool sent = info->si_code <= 0;
  if (sent && g_earlier.sa_handler == SIG_IGN) return;
  struct sigaction deadly = {};
  deadly.sa_handler = SIG_DFL;
  sigaction(signal, &deadly, nullptr);
  if (sent) raise(signal);
}

void OnSigbus(int signal, siginfo_t* info, void* context) {
  const int errno_before = errno;
  // BUS_ADRERR: past the end of the file, or the disk gave no data.
  const bool done =
      info->si_code == BUS_ADRERR && PutZerosAt(reinterpret_cast<uintptr_t>(info->si_addr));
  if (!done) HandOn(signal, info, context);
  errno = errno_before;
}

void InstallHandler() {
  g_page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction action = {};
  action.sa_sigaction = OnSigbus;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  // The earlier one first: the handler may run as soon as it is installed.
  sigaction(SIGBUS, nullptr, &g_earlier);
  sigaction(SIGBUS, &action, nullptr);
}

/// Under g_changes: a free entry, or a new one.
GuardedMapping* TakeEntry() {
  for (GuardedMapping* m = g_mappings.load(); m != nullptr; m = m->next)
    if (m->end == 0) return m;
  auto* added = new GuardedMapping;
  added->next = g_mappings.load();
  g_mappings.store(added, std::memory_order_release);
  return added;
}

}  // namespace

MappingGuard::MappingGuard(const void* begin, size_t bytes) {
  static std::once_flag installed;
  std::call_once(installed, InstallHandler);
  const std::lock_guard<std::mutex> lock(g_changes);
  mapping_ = TakeEntry();
  mapping_->damaged = false;
  const auto address = reinterpret_cast<uintptr_t>(begin);
  mapping_->Set(address, address + bytes);
}

MappingGuard::~MappingGuard() {
  const std::lock_guard<std::mutex> lock(g_changes);
  mapping_->Set(0, 0);
}

bool MappingGuard::damaged() const { return mapping_->damaged.load(std::memory_order_acquire); }

}  // namespace mrt
