// One pool of threads for all kernels. A kernel cuts its work into items that each write their own outputs, so that neither
// the number of threads nor the order in which they take items can affect a result.
#pragma once
#include <cstdint>
#include <functional>

// Runs body(i) for every i in [0, count) on all threads of the pool, the caller included, and returns when all are done.
// Called from within a body, it runs the items one after another.
void parallel_for(int64_t count, const std::function<void(int64_t)>& body);
