// A pool of worker threads for the extension's kernels.
#pragma once

#include <functional>

namespace leandnn {

// Calls body(task) once for every task in [0, tasks), on up to `threads` threads, the caller's among them, and
// returns when all are done. Which thread takes which task is left open, so tasks must not share what they
// write. A call from inside a task, or while another thread's call runs, is served by its caller alone.
void parallel(int threads, long tasks, const std::function<void(long)> &body);

}  // namespace leandnn
