// Memory that a thread computes in.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace leandnn {

// Memory of a thread that grows and is kept: fresh pages cost more than the products that use them.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }
  void *get(std::size_t bytes) {
#ifdef LEANDNN_SANITIZE  // no byte too many, and NaN in all: what reads or uses more than was written is found
    std::free(memory_);
    memory_ = nullptr;
    if (posix_memalign(&memory_, 64, bytes) != 0) throw std::bad_alloc();
    std::memset(memory_, 0xFF, size_ = bytes);
    return memory_;
#endif
    if (bytes > size_) {
      constexpr std::size_t huge = std::size_t(1) << 21;
      const std::size_t unit = bytes >= huge ? huge : 64;
      const std::size_t size = (bytes + unit - 1) / unit * unit;
      std::free(memory_);
      size_ = 0;
      memory_ = std::aligned_alloc(unit, size);
      if (memory_ == nullptr) throw std::bad_alloc();
      size_ = size;
      if (unit == huge) madvise(memory_, size, MADV_HUGEPAGE);
    }
    return memory_;
  }
  float *floats(long count) { return static_cast<float *>(get(static_cast<std::size_t>(count) * sizeof(float))); }

 private:
  void *memory_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace leandnn
