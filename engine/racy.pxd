# Reads without a lock that are meant: figures that may lag, look-ahead whose result is only a hint, settings that may
# be seen a moment late. Between racy_begin and racy_end ThreadSanitizer does not look at what this thread reads and
# writes (locks and atomics it does see). In every other build both are nothing. Each use says what makes it harmless.
cdef extern from * nogil:
    """
    #if defined(__SANITIZE_THREAD__)
    void AnnotateIgnoreReadsBegin(const char*, int);
    void AnnotateIgnoreReadsEnd(const char*, int);
    #define RACY_BEGIN() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
    #define RACY_END() AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
    #else
    #define RACY_BEGIN() ((void)0)
    #define RACY_END() ((void)0)
    #endif
    """
    void racy_begin "RACY_BEGIN"()
    void racy_end "RACY_END"()
