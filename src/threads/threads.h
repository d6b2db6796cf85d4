/* Clock, atomic counters and spinning barrier, and the structs that extension modules pass to each other in
   capsules. The barrier is for a few threads that wait for each other every few microseconds: a waiting thread spins,
   and yields the processor if another thread is late. Include Python.h before this file. */
#ifndef NNC_THREADS_H
#define NNC_THREADS_H

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#include <windows.h>
#define yield_processor() SwitchToThread()
#define spin_pause() YieldProcessor()
typedef volatile long counter;
static inline long counter_get(counter *c) { return InterlockedCompareExchange(c, 0, 0); }
static inline void counter_set(counter *c, long value) { InterlockedExchange(c, value); }
static inline long counter_increment(counter *c) { return InterlockedIncrement(c); }
static inline void counter_add(counter *c, long value) { InterlockedExchangeAdd(c, value); }
static inline long counter_swap(counter *c, long value) { return InterlockedExchange(c, value); }
static inline int counter_compare_swap(counter *c, long from, long to) {
    return InterlockedCompareExchange(c, to, from) == from;
}
#else
#ifdef _WIN32
#include <windows.h>
#define yield_processor() SwitchToThread()
#else
#include <sched.h>
#define yield_processor() sched_yield()
#endif
#if defined(__x86_64__) || defined(__i386__)
#define spin_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define spin_pause() __asm__ __volatile__("yield")
#else
#define spin_pause() ((void)0)
#endif
typedef long counter;
static inline long counter_get(counter *c) { return __atomic_load_n(c, __ATOMIC_ACQUIRE); }
static inline void counter_set(counter *c, long value) { __atomic_store_n(c, value, __ATOMIC_RELEASE); }
static inline long counter_increment(counter *c) { return __atomic_add_fetch(c, 1, __ATOMIC_ACQ_REL); }
static inline void counter_add(counter *c, long value) { __atomic_fetch_add(c, value, __ATOMIC_RELAXED); }
static inline long counter_swap(counter *c, long value) { return __atomic_exchange_n(c, value, __ATOMIC_ACQ_REL); }
static inline int counter_compare_swap(counter *c, long from, long to) {
    return __atomic_compare_exchange_n(c, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
#endif

/* Return the number of the processor that runs this thread, or -1 if the system does not provide it. */
#ifdef __linux__
#include <sched.h>
static inline int processor_number(void) { return sched_getcpu(); }
#else
static inline int processor_number(void) { return -1; }
#endif

/* Return the time of a monotonic clock in seconds. */
#ifdef _WIN32
static inline double now(void) {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    return (double)ticks.QuadPart / (double)frequency.QuadPart;
}
#else
#include <time.h>
static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif

/* Work for a thread team that needs no Python. The function work(context, thread, amount) does `amount` units of work
   as thread number `thread`. */
typedef struct {
    void (*work)(void *context, int thread, Py_ssize_t amount);
    void *context;
} Task;

/* Functions for single training steps of a prepared run. Arguments may be objects of any type. A function returns 0
   without a step if an argument must be converted first; `outputs` also if a target or an output is not finite.

       step      take a step on X and y with this learning rate, and write the loss before the step
       outputs   write the outputs before the step into P, for a custom loss with targets y (n, k)
       finish    take the step for which `outputs` has written P, given dP, the derivative of the custom loss with
                 respect to P */
typedef struct {
    int (*step)(void *context, PyObject *X, PyObject *y, double rate, double *loss);
    int (*outputs)(void *context, PyObject *X, PyObject *y, Py_ssize_t k, PyObject *P);
    int (*finish)(void *context, PyObject *X, PyObject *dP, double rate, double *loss);
    void *context;
} SingleStep;

typedef struct {
    long threads;
    counter arrived;
    counter generation;
    counter aborted; /* 1 if a thread has failed and will not arrive at the barrier */
} Barrier;

static inline void barrier_init(Barrier *b, long threads) {
    b->threads = threads;
    counter_set(&b->arrived, 0);
    counter_set(&b->generation, 0);
    counter_set(&b->aborted, 0);
}

/* Spin until the counter differs from `value`, but read it at most max_reads times. Return whether it differs. */
static inline int spin_until_changed(counter *c, long value, long max_reads) {
    for (; max_reads > 0; max_reads--) {
        if (counter_get(c) != value) return 1;
        spin_pause();
    }
    return 0;
}

/* Abort the barrier: release all threads that wait at it now or later. */
static inline void barrier_abort(Barrier *b) { counter_set(&b->aborted, 1); }

/* Wait until all threads have arrived at the barrier. Return 1 if the barrier was aborted because a thread has failed,
   else 0. */
static inline int barrier_wait(Barrier *b) {
    enum { SPINS = 4000 }; /* reads of `generation` before the thread yields; they take 20 to 100 us */
    long generation = counter_get(&b->generation);
    if (counter_increment(&b->arrived) == b->threads) {
        counter_set(&b->arrived, 0);
        counter_set(&b->generation, generation + 1);
        return 0;
    }
    if (spin_until_changed(&b->generation, generation, SPINS)) return 0;
    while (counter_get(&b->generation) == generation) {
        if (counter_get(&b->aborted)) return 1;
        yield_processor();
    }
    return 0;
}

#endif
