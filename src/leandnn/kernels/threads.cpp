#include "threads.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace leandnn {
namespace {

class Pool {
 public:
  void run(int threads, long tasks, const std::function<void(long)> &body) {
    while (static_cast<int>(workers_.size()) < threads - 1)
      workers_.emplace_back([this, id = static_cast<int>(workers_.size())] { work(id); });
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      tasks_ = tasks;
      next_ = 0;
      helpers_ = threads - 1;
      running_ = helpers_;
      error_ = nullptr;
      ++round_;
    }
    wake_.notify_all();
    take();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void take() {
    for (long task; (task = next_.fetch_add(1)) < tasks_;) {
      try {
        (*body_)(task);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        error_ = std::current_exception();
      }
    }
  }

  [[noreturn]] void work(int id) {
    for (long seen = 0;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen && id < helpers_; });
        seen = round_;
      }
      take();
      std::lock_guard<std::mutex> lock(mutex_);
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  const std::function<void(long)> *body_ = nullptr;
  std::atomic<long> next_{0};
  long tasks_ = 0, round_ = 0;
  int helpers_ = 0, running_ = 0;
  std::exception_ptr error_;
};

// The threads that torch itself computes with, if its OpenMP runtime is loaded: a pool beside it would share
// the cores with OpenMP's threads, which go on spinning for a while after each of torch's operations.
using OpenMP = void (*)(void (*)(void *), void *, unsigned, unsigned);
OpenMP openmp = nullptr;

struct Job {
  const std::function<void(long)> &body;
  long tasks;
  std::atomic<long> next{0};
  std::mutex mutex{};
  std::exception_ptr error{};
};

void take(void *data) {
  Job &job = *static_cast<Job *>(data);
  for (long task; (task = job.next.fetch_add(1)) < job.tasks;) {
    try {
      job.body(task);
    } catch (...) {
      std::lock_guard<std::mutex> lock(job.mutex);
      job.error = std::current_exception();
    }
  }
}

// Never destroyed: its threads wait until the process ends. A forked child has none of them and makes its own;
// nor has it those of OpenMP, which would wait for them for ever.
Pool *pool = nullptr;
std::mutex *busy = nullptr;

void renew() {
  pool = new Pool;
  busy = new std::mutex;
  openmp = nullptr;
}

void begin() {
  renew();
  openmp = reinterpret_cast<OpenMP>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
}

thread_local bool inside = false;

}  // namespace

void parallel(int threads, long tasks, const std::function<void(long)> &body) {
  static const bool once = (begin(), pthread_atfork(nullptr, nullptr, renew), true);
  (void)once;
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1 || inside) {
    for (long task = 0; task < tasks; ++task) body(task);
    return;
  }
  const std::function<void(long)> marked = [&body](long task) {
    inside = true;
    struct Leave {
      ~Leave() { inside = false; }
    } leave;
    body(task);
  };
  if (openmp != nullptr) {
    Job job{marked, tasks};
    openmp(take, &job, static_cast<unsigned>(threads), 0);
    if (job.error) std::rethrow_exception(job.error);
    return;
  }
  std::unique_lock<std::mutex> mine(*busy, std::try_to_lock);
  if (mine)
    pool->run(threads, tasks, marked);
  else
    for (long task = 0; task < tasks; ++task) body(task);
}

}  // namespace leandnn
