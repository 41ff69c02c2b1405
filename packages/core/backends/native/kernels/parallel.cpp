// The pool behind parallel_for: workers wait for a job, then take its items from one shared counter. They spin for a moment
// before they sleep: the next kernel mostly comes within microseconds, and a thread that has slept starts late, often on the
// caller's core.
#include "parallel.h"

#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

struct Job {
  const std::function<void(int64_t)>* body;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> finished{0};
};

thread_local bool inside = false;

constexpr auto kAwake = std::chrono::microseconds(200);

inline void relax() {
#if defined(__SSE2__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Pool {
 public:
  void resize(int threads) {
    stop();
    stopping_ = false;
    for (int i = 1; i < threads; i++) workers_.emplace_back([this] { work(); });
  }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void run(int64_t count, const std::function<void(int64_t)>& body) {
    auto job = std::make_shared<Job>();
    job->body = &body;
    job->count = count;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = job;
      generation_++;
    }
    wake_.notify_all();
    take(*job);
    while (job->finished.load(std::memory_order_acquire) < count) std::this_thread::yield();
  }

 private:
  void take(Job& job) {
    inside = true;
    for (int64_t i; (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.count;) {
      (*job.body)(i);
      job.finished.fetch_add(1, std::memory_order_release);
    }
    inside = false;
  }

  void work() {
    uint64_t seen = 0;
    for (;;) {
      wait_awake(seen);
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
        job = job_;
      }
      if (job) take(*job);
    }
  }

  // Spins until there is a new job, or for kAwake at most.
  void wait_awake(uint64_t seen) {
    const auto end = std::chrono::steady_clock::now() + kAwake;
    do {
      for (int i = 0; i < 64; i++) {
        if (generation_.load(std::memory_order_acquire) != seen) return;
        relax();
      }
    } while (std::chrono::steady_clock::now() < end);
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      job_.reset();
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  std::shared_ptr<Job> job_;
  std::atomic<uint64_t> generation_{0};
  bool stopping_ = false;
};

// Keeps this library in memory until the process is gone: on exit Node unloads libraries, and a worker that woke after that
// would have no code to run.
void stay_loaded() {
  static const int here = 0;
  Dl_info info;
  if (dladdr(&here, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

// Never destroyed: the process may end while workers sleep.
Pool& pool() {
  static Pool* instance = [] {
    stay_loaded();
    auto* made = new Pool();
    const unsigned cores = std::thread::hardware_concurrency();
    made->resize(cores > 0 ? static_cast<int>(cores) : 1);
    return made;
  }();
  return *instance;
}

}  // namespace

void parallel_for(int64_t count, const std::function<void(int64_t)>& body) {
  if (inside || count <= 1 || pool().size() == 1) {
    for (int64_t i = 0; i < count; i++) body(i);
    return;
  }
  pool().run(count, body);
}

extern "C" void sb_set_threads(int32_t threads) { pool().resize(threads > 1 ? threads : 1); }
extern "C" void sb_get_threads(int32_t* threads) { *threads = pool().size(); }
