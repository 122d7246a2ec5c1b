# What AddressSanitizer is told of memory that it did not hand out itself. In every other build ASAN_ON is a
# constant 0 and the rest is nothing.
cdef extern from * nogil:
    """
    #if defined(__SANITIZE_ADDRESS__)
    #include <sanitizer/asan_interface.h>
    #define ASAN_ON 1
    #else
    #define ASAN_ON 0
    #define ASAN_POISON_MEMORY_REGION(at, size) ((void)0)
    #define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)0)
    #endif
    """
    int ASAN_ON
    void asan_poison "ASAN_POISON_MEMORY_REGION"(const void*, size_t)
    void asan_unpoison "ASAN_UNPOISON_MEMORY_REGION"(const void*, size_t)
