// Threads for the extension's kernels: those of torch's OpenMP runtime, else a pool of its own.
#pragma once

#include <functional>

namespace leandnn {

// Calls body(task) once for every task in [0, tasks), on up to `threads` threads, the caller's among them, and
// returns when all are done. Which thread takes which task is left open, so tasks must not share what they
// write. A call from inside a task is served by its caller alone.
void parallel(int threads, long tasks, const std::function<void(long)> &body);

}  // namespace leandnn
