# A program without Python that runs the kernels, threads.h and cpu_features.h. tools/run_in_wine.py compiles the program
# for Windows and for Linux with the same compiler, and compares the output of both.

from libc.stdint cimport uint64_t
from libc.stdio cimport printf

cimport activations
cimport matmul
from dropout cimport mask_row
from simd cimport VL, divide_by_root, flush_denormals, load, real, restore_denormals, store, vec
from squares cimport MAX_LANES, transpose
from threads cimport (Barrier, barrier_abort, barrier_init, barrier_wait, counter, counter_add, counter_compare_swap,
                      counter_get, counter_set, counter_swap, now, yield_processor)
from vmath cimport SMALLEST_NORMAL, exp, expm1, log, log1p

cdef extern from "cpu_features.h" nogil:
    bint has_avx2()
    bint has_avx512()

cdef extern from *:
    """
    typedef struct { void (*work)(void *context, int thread); void *context; int thread; } Start;
    #ifdef _WIN32
    #include <windows.h>
    typedef HANDLE Thread;
    static DWORD WINAPI thread_main(void *p) { ((Start *)p)->work(((Start *)p)->context, ((Start *)p)->thread); return 0; }
    static Thread thread_start(Start *start) { return CreateThread(NULL, 0, thread_main, start, 0, NULL); }
    static void thread_join(Thread thread) { WaitForSingleObject(thread, INFINITE); CloseHandle(thread); }
    #else
    #include <pthread.h>
    typedef pthread_t Thread;
    static void *thread_main(void *p) { ((Start *)p)->work(((Start *)p)->context, ((Start *)p)->thread); return NULL; }
    static Thread thread_start(Start *start) {
        Thread thread;
        return pthread_create(&thread, NULL, thread_main, start) ? 0 : thread;
    }
    static void thread_join(Thread thread) { pthread_join(thread, NULL); }
    #endif
    """
    ctypedef struct Thread:
        pass
    ctypedef struct Start:
        void (*work)(void* context, int thread) noexcept nogil
        void* context
        int thread
    Thread thread_start(Start* start) nogil
    void thread_join(Thread thread) nogil

cdef enum:
    THREADS = 4
    ROUNDS = 2000            # rounds of the barrier test
    MAX_ROWS = 64            # rows and depth of the largest product
    MAX_COLUMNS = 6 * MAX_LANES
    MAX_NUMBERS = MAX_ROWS * MAX_COLUMNS

cdef real A[MAX_NUMBERS]
cdef real B[MAX_NUMBERS]
cdef real C[MAX_NUMBERS]
cdef real D[MAX_NUMBERS]
cdef real S[MAX_NUMBERS]
cdef uint64_t random_state = 1


cdef double random_number(double low, double high) noexcept nogil:
    # Return a number of a linear congruential generator (Knuth's MMIX constants).
    global random_state
    random_state = random_state * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
    return low + (high - low) * (<double>(random_state >> 40) / 16777216.0)


cdef void fill(real* p, Py_ssize_t n, double low, double high) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = <real>random_number(low, high)


cdef void report(const char* name, const void* p, Py_ssize_t size) noexcept nogil:
    # Print the FNV-1a hash of `size` bytes.
    cdef uint64_t h = <uint64_t>0xCBF29CE484222325
    cdef Py_ssize_t i
    for i in range(size):
        h = (h ^ (<const unsigned char*>p)[i]) * <uint64_t>0x100000001B3
    printf("%s %08x%08x\n", name, <unsigned int>(h >> 32), <unsigned int>h)


cdef int check(const char* name, bint succeeded) noexcept nogil:
    # Print the result of a check, and return 1 if it failed.
    printf("%s %s\n", name, <const char*>"ok" if succeeded else <const char*>"failed")
    return 0 if succeeded else 1


cdef int run_products() noexcept nogil:
    # Compare products of integers, which are exact in any order, with three loops; print the hash of other products.
    cdef const real* pointers[MAX_ROWS]
    cdef const real** rows = pointers
    cdef Py_ssize_t m, n, k, i, j, l
    cdef double total
    cdef int wrong = 0
    for m in range(1, 26):
        for n from VL <= n <= 6 * VL by VL:
            k = 1 + (m * 7 + n) % MAX_ROWS
            fill(A, m * k, -8, 9)
            fill(B, k * n, -8, 9)
            for i in range(m * k):
                A[i] = <real><int>A[i]
            for i in range(k * n):
                B[i] = <real><int>B[i]
            for i in range(m):
                rows[i] = A + i * k
            matmul.product(matmul.ROWS, m, n, k, matmul.Rows(rows, 0), B, n, C, n, NULL, 1, False, NULL, False, NULL)
            for i in range(m):
                for j in range(n):
                    total = 0
                    for l in range(k):
                        total += <double>A[i * k + l] * B[l * n + j]
                    wrong += total != C[i * n + j]
    fill(A, MAX_ROWS * MAX_ROWS, -1, 1)
    fill(B, MAX_ROWS * 6 * VL, -1, 1)
    for i in range(MAX_ROWS):
        rows[i] = A + i * MAX_ROWS
    for i in range(3):
        matmul.product(<matmul.Layout>i, MAX_ROWS, 6 * VL, MAX_ROWS, matmul.Rows(rows, 0), B, 6 * VL, C, 6 * VL, NULL, 1,
                       i > 0, NULL, False, NULL)
    report("product", C, MAX_ROWS * 6 * VL * sizeof(real))
    return check("products of integers", wrong == 0)


cdef int run_functions() noexcept nogil:
    # Print hashes of the vector functions, and check them at points with known values.
    cdef Py_ssize_t i
    cdef vec square[MAX_LANES]
    cdef int wrong = 0
    cdef Py_ssize_t n = 64 * MAX_LANES
    fill(A, n, -20, 20)
    fill(B, n, 1e-3, 100)
    for i from 0 <= i < n by VL:
        store(C + i, exp(load(A + i)))
        store(D + i, expm1(load(A + i)))
    report("exp", C, n * sizeof(real))
    report("expm1", D, n * sizeof(real))
    for i from 0 <= i < n by VL:
        store(C + i, log(load(B + i)))
        store(D + i, log1p(load(B + i)))
        store(S + i, divide_by_root(load(A + i), load(B + i), <real>0.9, <real>1e-8))
    report("log", C, n * sizeof(real))
    report("log1p", D, n * sizeof(real))
    report("divide_by_root", S, n * sizeof(real))
    for i from 0 <= i < VL * VL by VL:
        square[i // VL] = load(A + i)
    transpose(square)
    for i in range(VL * VL):
        if (<const real*>square)[i] != A[i % VL * VL + i // VL]:
            wrong += 1
    mask_row(7, 3, 0.25, C, n - 3)
    report("dropout", C, (n - 3) * sizeof(real))
    return check("transpose", wrong == 0)


cdef int run_activations() noexcept nogil:
    # Print hashes of each activation and of its derivative, and check that the rows of softmax sum to 1.
    cdef int activation
    cdef Py_ssize_t n = 64 * MAX_LANES, i, j
    cdef double total
    cdef bint is_one = True
    for activation in range(activations.SOFTMAX):
        fill(A, n, -6, 6)
        fill(D, n, -1, 1)
        activations.activate(activation, A, C, n)
        activations.differentiate(activation, A, C, D, n)
        report("activation", C, n * sizeof(real))
        report("derivative", D, n * sizeof(real))
    fill(A, MAX_ROWS * 2 * VL, -6, 6)
    activations.softmax(A, C, D, MAX_ROWS, 2 * VL - 1, 2 * VL, S)
    for i in range(MAX_ROWS):
        total = 0
        for j in range(2 * VL - 1):
            total += C[i * 2 * VL + j]
        is_one = is_one and total - 1 < 1e-5 and total - 1 > -1e-5
    report("softmax", C, MAX_ROWS * 2 * VL * sizeof(real))
    return check("rows of softmax", is_one)


cdef int run_denormals() noexcept nogil:
    # Check that denormal numbers are zero only between flush_denormals and restore_denormals.
    cdef volatile_real tiny = SMALLEST_NORMAL, half
    cdef unsigned int mode = flush_denormals()
    half = tiny * <real>0.5
    cdef bint flushed = half == 0
    restore_denormals(mode)
    half = tiny * <real>0.5
    return check("denormals", flushed and half != 0)


cdef extern from *:
    """
    typedef volatile real volatile_real;
    """
    ctypedef real volatile_real

cdef struct Team:
    Barrier barrier
    counter total            # increments of all threads
    counter owner            # 1 while a thread holds the lock
    long guarded             # increments under the lock
    long late                # rounds in which a thread did not see the increments of all others
    counter aborted          # threads that an aborted barrier has released

cdef Team team


cdef void work(void* context, int thread) noexcept nogil:
    cdef Team* t = <Team*>context
    cdef int round
    for round in range(1, ROUNDS + 1):
        counter_add(&t.total, 1)
        while not counter_compare_swap(&t.owner, 0, 1):
            yield_processor()
        t.guarded += 1
        counter_set(&t.owner, 0)
        barrier_wait(&t.barrier)
        if counter_get(&t.total) != THREADS * round:
            t.late += 1
        barrier_wait(&t.barrier)
    if thread == 0:
        barrier_abort(&t.barrier)
    elif barrier_wait(&t.barrier):
        counter_add(&t.aborted, 1)


cdef int run_threads() noexcept nogil:
    # Check the barrier, the atomic counters and the clock with several threads.
    cdef Thread threads[THREADS]
    cdef Start starts[THREADS]
    cdef int i
    cdef double begin = now(), last = begin, moment
    cdef bint monotonic = True
    barrier_init(&team.barrier, THREADS)
    for i in range(THREADS):
        starts[i].work, starts[i].context, starts[i].thread = work, &team, i
        threads[i] = thread_start(&starts[i])
    for i in range(THREADS):
        thread_join(threads[i])
    for i in range(100000):
        moment = now()
        monotonic = monotonic and moment >= last
        last = moment
    return (
        check("barrier", team.late == 0 and counter_get(&team.total) == THREADS * ROUNDS)
        + check("lock", team.guarded == THREADS * ROUNDS and counter_swap(&team.owner, 5) == 0 and team.owner == 5)
        + check("aborted barrier", counter_get(&team.aborted) == THREADS - 1)
        + check("clock", monotonic and last > begin and last - begin < 600)
    )


cdef public int main() noexcept nogil:
    printf("processor: AVX2 %d, AVX-512 %d; %d numbers per vector\n", has_avx2(), has_avx512(), VL)
    return run_products() + run_functions() + run_activations() + run_denormals() + run_threads()
