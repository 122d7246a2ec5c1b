# slotring: data plane
"""Geo: sorted sets whose scores are places."""
from libc.math cimport llrint
from libc.stdlib cimport abort, free, malloc, qsort, realloc
from libc.string cimport memset
from engine.defs cimport *
from engine.args cimport long_arg
from engine.command cimport Arg, Ctx, arg_is, commands, register
from engine.commands.keys cimport error_quoting
from engine.commands.zsets cimport double_arg, zadd_scored, zset_read
from engine.effects cimport effect_end, effect_int, effects_wanted
from engine.events cimport *
from engine.geohash cimport *
from engine.hashing cimport hash_bytes
from engine.keyspace cimport *
from engine.members cimport Members, cell_new, members_add, members_find
from engine.numbers cimport parse_i64, write_long_double
from engine.reply cimport *
from engine.restate cimport *
from engine.store cimport *
from engine.zset cimport *
from engine.commands.zsets import about

cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)

cdef enum:
    SORT_NONE = 0
    SORT_ASC = 1
    SORT_DESC = 2

    ASK_COORDS = 1                 # GEORADIUS
    ASK_MEMBER = 2                 # GEORADIUSBYMEMBER
    ASK_SEARCH = 3                 # GEOSEARCH, GEOSEARCHSTORE

    QUOTED_MAX = 1 << 20
    DEGREE_CHARS = 5120

cdef const char* ALPHABET = b"0123456789bcdefghjkmnpqrstuvwxyz"

cdef struct Point:                 # something found
    double xy[2]
    double dist                    # metres
    double score
    const char* s                  # NULL: the name is in tmp
    size_t n
    char tmp[24]

cdef struct Found:
    Point* points
    u64 n
    u64 room

cdef struct Search:
    Ctx* c
    Z z                            # z.v NULL: the key is missing
    int ask
    bint no_store
    bint stores                    # GEOSEARCHSTORE
    GeoShape shape
    Arg* store
    bint store_dist
    bint with_dist
    bint with_hash
    bint with_coord
    bint any_
    bint from_member
    bint from_place
    int sort
    i64 count                      # 0: all


# ---- arguments

cdef bint place_arg(Ctx* c, Arg* a, double* xy) noexcept nogil:
    """Longitude and latitude at a and behind it; False: an error was replied."""
    cdef char text[800]
    if not double_arg(c, a, &xy[0], NULL) or not double_arg(c, a + 1, &xy[1], NULL):
        return False
    if geo_valid(xy[0], xy[1]):
        return True
    snprintf(text, sizeof(text), b"ERR invalid longitude,latitude pair %f,%f", xy[0], xy[1])
    reply_error(c.out, text)
    return False


cdef double unit_arg(Ctx* c, Arg* a) noexcept nogil:
    """Metres of a unit; below 0: an error was replied."""
    if arg_is(a, b"m", 1):
        return 1
    if arg_is(a, b"km", 2):
        return 1000
    if arg_is(a, b"ft", 2):
        return 0.3048
    if arg_is(a, b"mi", 2):
        return 1609.34
    reply_error(c.out, b"ERR unsupported unit provided. please use M, KM, FT, MI")
    return -1


cdef bint radius_arg(Search* s, Arg* a) noexcept nogil:
    """A radius and its unit."""
    cdef double unit
    if not double_arg(s.c, a, &s.shape.radius, b"ERR need numeric radius"):
        return False
    if s.shape.radius < 0:
        reply_error(s.c.out, b"ERR radius cannot be negative")
        return False
    unit = unit_arg(s.c, a + 1)
    if unit < 0:
        return False
    s.shape.conversion = unit
    s.shape.type_ = SHAPE_CIRCLE
    return True


cdef bint box_arg(Search* s, Arg* a) noexcept nogil:
    """Width, height and their unit."""
    cdef double unit
    if not double_arg(s.c, a, &s.shape.width, b"ERR need numeric width") or \
            not double_arg(s.c, a + 1, &s.shape.height, b"ERR need numeric height"):
        return False
    if s.shape.width < 0 or s.shape.height < 0:
        reply_error(s.c.out, b"ERR height or width cannot be negative")
        return False
    unit = unit_arg(s.c, a + 2)
    if unit < 0:
        return False
    s.shape.conversion = unit
    s.shape.type_ = SHAPE_BOX
    return True


cdef i64 polygon_arg(Search* s, Arg* a, i64 left) noexcept nogil:
    """A count of vertices and the vertices, `left` arguments at most; how many were taken, 0: an error was replied."""
    cdef i64 n, i
    if not parse_i64(a.ptr, a.len, &n) or not -2147483648 <= n <= 2147483647:
        reply_error(s.c.out, b"ERR invalid number of vertices")
        return 0
    if n < 3 or (left - 1) // 2 < n:
        reply_error(s.c.out, b"ERR GEOSEARCH BYPOLYGON must have at least 3 vertices")
        return 0
    free(s.shape.points)
    s.shape.points = <double*>malloc(n * 2 * sizeof(double))
    if s.shape.points == NULL:
        abort()
    s.shape.n = n
    s.shape.conversion = 1
    s.shape.type_ = SHAPE_POLYGON
    for i in range(n):
        if not place_arg(s.c, a + 1 + 2 * i, &s.shape.points[2 * i]):
            return 0
    return 1 + 2 * n


cdef bint member_arg(Search* s, Arg* a) noexcept nogil:
    """The place of a member."""
    cdef double score
    if not z_score(&s.z, a.ptr, a.len, &score):
        error_quoting(s.c, b"ERR member ", a, QUOTED_MAX, b" does not exist")
        return False
    geo_decode(score, s.shape.xy)
    return True


cdef bint search_word(Search* s, i64* at) noexcept nogil:
    """A word of GEOSEARCH at argv[*at], which moves on; False: an error was replied."""
    cdef Ctx* c = s.c
    cdef Arg* a = &c.argv[at[0]]
    cdef i64 left = c.argc - at[0] - 1, n
    cdef int shape = s.shape.type_
    if arg_is(a, b"storedist", 9) and s.stores:
        s.store_dist = True
    elif arg_is(a, b"frommember", 10) and left >= 1 and not s.from_place and shape != SHAPE_POLYGON:
        if s.z.v != NULL and not member_arg(s, a + 1):
            return False
        s.from_member = True
        at[0] += 1
    elif arg_is(a, b"fromlonlat", 10) and left >= 2 and not s.from_member and shape != SHAPE_POLYGON:
        if not place_arg(c, a + 1, s.shape.xy):
            return False
        s.from_place = True
        at[0] += 2
    elif arg_is(a, b"byradius", 8) and left >= 2 and (not shape or shape == SHAPE_CIRCLE):
        if not radius_arg(s, a + 1):
            return False
        at[0] += 2
    elif arg_is(a, b"bybox", 5) and left >= 3 and (not shape or shape == SHAPE_BOX):
        if not box_arg(s, a + 1):
            return False
        at[0] += 3
    elif arg_is(a, b"bypolygon", 9) and left >= 2 and (not shape or shape == SHAPE_POLYGON) and \
            not s.from_member and not s.from_place:
        n = polygon_arg(s, a + 1, left)
        if n == 0:
            return False
        at[0] += n
    else:
        reply_error(c.out, b"ERR syntax error")
        return False
    at[0] += 1
    return True


cdef bint options(Search* s, i64 at) noexcept nogil:
    """The words from argv[at] on; False: an error was replied."""
    cdef Ctx* c = s.c
    cdef Arg* a
    cdef bint more
    while at < c.argc:
        a = &c.argv[at]
        more = at + 1 < c.argc
        if arg_is(a, b"withdist", 8):
            s.with_dist = True
        elif arg_is(a, b"withhash", 8):
            s.with_hash = True
        elif arg_is(a, b"withcoord", 9):
            s.with_coord = True
        elif arg_is(a, b"any", 3):
            s.any_ = True
        elif arg_is(a, b"asc", 3):
            s.sort = SORT_ASC
        elif arg_is(a, b"desc", 4):
            s.sort = SORT_DESC
        elif arg_is(a, b"count", 5) and more:
            if not long_arg(c, a + 1, &s.count):
                return False
            if s.count <= 0:
                reply_error(c.out, b"ERR COUNT must be > 0")
                return False
            at += 1
        elif s.ask != ASK_SEARCH and not s.no_store and more and \
                (arg_is(a, b"store", 5) or arg_is(a, b"storedist", 9)):
            s.store = a + 1
            s.store_dist = a.len > 5
            at += 1
        elif s.ask == ASK_SEARCH:
            if not search_word(s, &at):
                return False
            continue
        else:
            reply_error(c.out, b"ERR syntax error")
            return False
        at += 1
    return True


cdef bint refused_together(Search* s) noexcept nogil:
    """Options that do not fit together: an error was replied."""
    cdef Ctx* c = s.c
    if s.store != NULL and (s.with_dist or s.with_hash or s.with_coord):
        if s.stores:
            reply_error(c.out, b"ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
        else:
            reply_error(c.out, b"ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and "
                        b"WITHCOORD options")
    elif s.ask == ASK_SEARCH and not s.from_member and not s.from_place and s.shape.type_ != SHAPE_POLYGON:
        error_quoting(c, b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for ", &c.argv[0],
                      QUOTED_MAX, b"")
    elif s.ask == ASK_SEARCH and not s.shape.type_:
        error_quoting(c, b"ERR exactly one of BYRADIUS, BYBOX and BYPOLYGON can be specified for ", &c.argv[0],
                      QUOTED_MAX, b"")
    elif s.any_ and not s.count:
        reply_error(c.out, b"ERR the ANY argument requires COUNT argument")
    else:
        return False
    return True


# ---- finding

cdef void found_add(Found* f, ZWalk* w, ZItem* item, double* xy, double dist) noexcept nogil:
    cdef Point* p
    if f.n == f.room:
        f.room = f.room * 2 if f.room else 32
        f.points = <Point*>realloc(f.points, f.room * sizeof(Point))
        if f.points == NULL:
            abort()
    p = &f.points[f.n]
    f.n += 1
    p.xy[0] = xy[0]
    p.xy[1] = xy[1]
    p.dist = dist
    p.score = item.score
    p.n = item.n
    p.s = item.s
    if item.s == w.tmp:                    # an integer's digits, which the walk overwrites
        memcpy(p.tmp, item.s, item.n)
        p.s = NULL


cdef void look(Search* s, Found* f) noexcept nogil:
    """Everything in the shape, area by area; with ANY no more than COUNT."""
    cdef GeoRange areas[GEO_AREAS]
    cdef Bound low, high
    cdef u64 start, end, i
    cdef u64 limit = <u64>s.count if s.any_ else 0
    cdef ZWalk w
    cdef ZItem item
    cdef double xy[2]
    cdef double dist = 0
    geo_areas(&s.shape, areas)
    low.kind = high.kind = BEFORE_SCORE
    for i in range(GEO_AREAS):
        if not areas[i].used:
            continue
        if limit and f.n >= limit:
            break
        low.score = <double>areas[i].low
        high.score = <double>areas[i].high
        z_range(&s.z, &low, &high, &start, &end)
        if start >= end:
            continue
        z_walk(&s.z, &w, start, False)
        while start < end and z_next(&w, &item):
            if geo_within(&s.shape, item.score, xy, &dist):
                found_add(f, &w, &item, xy, dist)
                if limit and f.n >= limit:
                    break
            start += 1


ctypedef int (*cmp_fn)(const void* a, const void* b) noexcept nogil


cdef int nearer(const void* a, const void* b) noexcept nogil:
    cdef double x = (<Point*>a).dist, y = (<Point*>b).dist
    return (x > y) - (x < y)


cdef int farther(const void* a, const void* b) noexcept nogil:
    return nearer(b, a)


cdef inline void swap(Point* a, Point* b) noexcept nogil:
    cdef Point t = a[0]
    a[0] = b[0]
    b[0] = t


cdef inline Point* median(Point* a, Point* b, Point* c, cmp_fn cmp) noexcept nogil:
    if cmp(a, b) < 0:
        if cmp(b, c) < 0:
            return b
        return c if cmp(a, c) < 0 else a
    if cmp(b, c) > 0:
        return b
    return a if cmp(a, c) < 0 else c


cdef Point* pivot(Point* a, i64 n, cmp_fn cmp) noexcept nogil:
    cdef Point* low = a
    cdef Point* middle = a + n // 2
    cdef Point* high = a + n - 1
    cdef i64 d = n // 8
    if n == 7:
        return middle
    if n > 40:
        low = median(low, low + d, low + 2 * d, cmp)
        middle = median(middle - d, middle, middle + d, cmp)
        high = median(high - 2 * d, high - d, high, cmp)
    return median(low, middle, high, cmp)


cdef void sort_some(Point* a, i64 n, i64 wanted, cmp_fn cmp) noexcept nogil:
    """Bring the first `wanted` of n points into their order: the quicksort of Bentley and McIlroy, which leaves parts
    that are not wanted alone. Points that are equally far come in the order that Valkey's gives them."""
    cdef i64 pa, pb, pc, pd, r, i
    cdef int order
    while wanted > 0:
        if n < 7:
            for pa in range(1, n):
                pb = pa
                while pb > 0 and cmp(&a[pb - 1], &a[pb]) > 0:
                    swap(&a[pb], &a[pb - 1])
                    pb -= 1
            return
        swap(a, pivot(a, n, cmp))
        pa = pb = 1                        # equal ones are gathered at both ends
        pc = pd = n - 1
        while True:
            while pb <= pc:
                order = cmp(&a[pb], a)
                if order > 0:
                    break
                if order == 0:
                    swap(&a[pa], &a[pb])
                    pa += 1
                pb += 1
            while pb <= pc:
                order = cmp(&a[pc], a)
                if order < 0:
                    break
                if order == 0:
                    swap(&a[pc], &a[pd])
                    pd -= 1
                pc -= 1
            if pb > pc:
                break
            swap(&a[pb], &a[pc])
            pb += 1
            pc -= 1
        r = pa if pa < pb - pa else pb - pa
        for i in range(r):
            swap(&a[i], &a[pb - r + i])
        r = pd - pc if pd - pc < n - 1 - pd else n - 1 - pd
        for i in range(r):
            swap(&a[pb + i], &a[n - r + i])
        if pb - pa > 1:
            sort_some(a, pb - pa, wanted, cmp)
        r = pd - pc
        if r <= 1:
            return
        a += n - r
        wanted -= n - r
        n = r


cdef inline const char* name_of(Point* p) noexcept nogil:
    if p.s == NULL:
        return p.tmp
    return p.s


# ---- replies

cdef void reply_distance(Ctx* c, double d) noexcept nogil:
    """Four digits behind the point, half to even."""
    cdef char text[48]
    cdef i64 v = llrint(d * 10000.0)
    cdef u64 whole = <u64>0 - <u64>v if v < 0 else <u64>v
    cdef int n = snprintf(text, sizeof(text), b"%s%llu.%04llu", b"-" if v < 0 else b"",
                          <unsigned long long>(whole // 10000), <unsigned long long>(whole % 10000))
    reply_bulk(c.out, text, <size_t>(n & 63))


cdef void reply_degrees(Ctx* c, double v) noexcept nogil:
    cdef char text[DEGREE_CHARS]
    cdef int n = write_long_double(text, sizeof(text), v)
    if c.resp > 2:
        out_write(c.out, b",", 1)
        out_write(c.out, text, n)
        out_write(c.out, b"\r\n", 2)
    else:
        reply_bulk(c.out, text, <size_t>(n & 4095))    # the mask is for the compiler


cdef void show(Search* s, Found* f, u64 n) noexcept nogil:
    cdef Ctx* c = s.c
    cdef Point* p
    cdef u64 i
    cdef i64 extra = <i64>s.with_dist + s.with_hash + s.with_coord
    reply_array(c.out, <i64>n)
    for i in range(n):
        p = &f.points[i]
        if extra:
            reply_array(c.out, extra + 1)
        reply_bulk(c.out, name_of(p), p.n)
        if s.with_dist:
            reply_distance(c, p.dist / s.shape.conversion)
        if s.with_hash:
            reply_int(c.out, <i64>p.score)
        if s.with_coord:
            reply_array(c.out, 2)
            reply_degrees(c, p.xy[0])
            reply_degrees(c, p.xy[1])


cdef void store_found(Search* s, Found* f, u64 n) noexcept nogil:
    """Make the result a sorted set, or delete the destination where there is none."""
    cdef Ctx* c = s.c
    cdef Key dst
    cdef Z z
    cdef Members* t
    cdef Point* p
    cdef u64 i, hash
    cdef double score
    key_init(c, &dst, s.store)
    if n == 0:
        if table_find(&dst) != NULL:           # even one that has expired
            key_delete(c, &dst)
            notify(c, N_GENERIC, b"del", &dst)
            c.dirty += 1
        reply_int(c.out, 0)
        return
    z_new(&z, &dst.part.arena, <u64>-1, 0)
    for i in range(n):
        p = &f.points[i]
        score = p.dist / s.shape.conversion if s.store_dist else p.score
        hash = hash_bytes(name_of(p), p.n)
        t = &(<Zset*>z.v).members
        if members_find(t, name_of(p), p.n, hash) == NULL:
            members_add(z.a, t, cell_new(z.a, name_of(p), p.n, NULL, 0, -1, &score), hash)
    z_finish(&z, True)
    lookup_write(c, &dst)
    key_put_value(c, &dst, TYPE_ZSET, z.enc, z.v)
    notify(c, N_ZSET, b"geosearchstore" if s.ask == ASK_SEARCH else b"georadiusstore", &dst)
    c.dirty += <i64>n
    reply_int(c.out, <i64>n)


cdef void answer(Search* s) noexcept nogil:
    cdef Found f
    cdef u64 n
    cdef cmp_fn cmp
    f.points = NULL
    f.n = f.room = 0
    if s.z.v != NULL:
        if s.count and s.sort == SORT_NONE and not s.any_:
            s.sort = SORT_ASC
        look(s, &f)
    n = f.n if s.count == 0 or f.n < <u64>s.count else <u64>s.count
    if s.sort != SORT_NONE and f.n:
        cmp = nearer if s.sort == SORT_ASC else farther
        if n == f.n:
            qsort(f.points, f.n, sizeof(Point), cmp)
        else:
            sort_some(f.points, <i64>f.n, <i64>n, cmp)
    if s.store != NULL:
        store_found(s, &f, n)
    else:
        show(s, &f, n)
    free(f.points)


cdef void search(Ctx* c, int ask, bint no_store, bint stores) noexcept nogil:
    cdef Search s
    cdef Key src
    cdef i64 at
    memset(&s, 0, sizeof(s))
    s.c = c
    s.ask = ask
    s.no_store = no_store
    s.stores = stores
    key_init(c, &src, &c.argv[2 if stores else 1])
    if not zset_read(c, &src, &s.z):
        return
    if ask == ASK_COORDS:
        if not place_arg(c, &c.argv[2], s.shape.xy) or not radius_arg(&s, &c.argv[4]):
            return
        at = 6
    elif ask == ASK_MEMBER:
        if s.z.v != NULL and (not member_arg(&s, &c.argv[2]) or not radius_arg(&s, &c.argv[3])):
            return
        at = 5
    else:
        if stores:
            s.store = &c.argv[1]
        at = 3 if stores else 2
    if options(&s, at) and not refused_together(&s):
        answer(&s)
    free(s.shape.points)


cdef void cmd_georadius(Ctx* c) noexcept nogil:
    search(c, ASK_COORDS, False, False)


cdef void cmd_georadius_ro(Ctx* c) noexcept nogil:
    search(c, ASK_COORDS, True, False)


cdef void cmd_georadiusbymember(Ctx* c) noexcept nogil:
    search(c, ASK_MEMBER, False, False)


cdef void cmd_georadiusbymember_ro(Ctx* c) noexcept nogil:
    search(c, ASK_MEMBER, True, False)


cdef void cmd_geosearch(Ctx* c) noexcept nogil:
    search(c, ASK_SEARCH, False, False)


cdef void cmd_geosearchstore(Ctx* c) noexcept nogil:
    search(c, ASK_SEARCH, False, True)


# ---- adding, looking up

cdef void restate_geoadd(Ctx* c, i64 at, double* scores) noexcept nogil:
    """ZADD; the places begin at argv[at]."""
    cdef i64 n = (c.argc - at) // 3, i
    restate_named(c, at + 2 * n, b"ZADD")
    restate_words(c, 1, at)
    for i in range(n):
        effect_int(c, <i64>scores[i])
        restate_words(c, at + 3 * i + 2, at + 3 * i + 3)
    effect_end(c)


cdef void cmd_geoadd(Ctx* c) noexcept nogil:
    cdef u32 flags = 0
    cdef bint ch = False
    cdef i64 at = 2, n, i, dirty = c.dirty
    cdef double xy[2]
    cdef double* scores
    while at < c.argc:
        if arg_is(&c.argv[at], b"nx", 2):
            flags |= ZIN_NX
        elif arg_is(&c.argv[at], b"xx", 2):
            flags |= ZIN_XX
        elif arg_is(&c.argv[at], b"ch", 2):
            ch = True
        else:
            break
        at += 1
    n = (c.argc - at) // 3
    if (c.argc - at) % 3 or (flags & ZIN_NX and flags & ZIN_XX) or n == 0:
        reply_error(c.out, b"ERR syntax error")
        return
    scores = <double*>malloc(n * sizeof(double))
    if scores == NULL:
        abort()
    for i in range(n):
        if not place_arg(c, &c.argv[at + 3 * i], xy):
            break
        scores[i] = <double>geo_score(xy[0], xy[1])
    else:
        zadd_scored(c, at, 3, scores, flags, ch)
        if effects_wanted() and c.dirty != dirty:
            restate_geoadd(c, at, scores)
    free(scores)


cdef void cmd_geopos(Ctx* c) noexcept nogil:
    cdef Z z
    cdef i64 i
    cdef double score
    cdef double xy[2]
    if not zset_read(c, &c.key, &z):
        return
    reply_array(c.out, c.argc - 2)
    for i in range(2, c.argc):
        if z.v == NULL or not z_score(&z, c.argv[i].ptr, c.argv[i].len, &score):
            reply_null_array(c.out, c.resp)
            continue
        geo_decode(score, xy)
        reply_array(c.out, 2)
        reply_degrees(c, xy[0])
        reply_degrees(c, xy[1])


cdef void cmd_geohash(Ctx* c) noexcept nogil:
    cdef Z z
    cdef i64 i
    cdef int j
    cdef u64 bits
    cdef double score
    cdef double xy[2]
    cdef char text[11]
    if not zset_read(c, &c.key, &z):
        return
    reply_array(c.out, c.argc - 2)
    for i in range(2, c.argc):
        if z.v == NULL or not z_score(&z, c.argv[i].ptr, c.argv[i].len, &score):
            reply_null(c.out, c.resp)
            continue
        geo_decode(score, xy)
        bits = geo_standard(xy[0], xy[1])
        for j in range(10):
            text[j] = ALPHABET[bits >> (52 - (j + 1) * 5) & 31]
        text[10] = c'0'                    # 52 bits are two short of eleven letters
        reply_bulk(c.out, text, 11)


cdef void cmd_geodist(Ctx* c) noexcept nogil:
    cdef Z z
    cdef double unit = 1, a, b
    cdef double p[2]
    cdef double q[2]
    if c.argc > 5:
        reply_error(c.out, b"ERR syntax error")
        return
    if c.argc == 5:
        unit = unit_arg(c, &c.argv[4])
        if unit < 0:
            return
    if not zset_read(c, &c.key, &z):
        return
    if z.v == NULL or not z_score(&z, c.argv[2].ptr, c.argv[2].len, &a) or \
            not z_score(&z, c.argv[3].ptr, c.argv[3].len, &b):
        reply_null(c.out, c.resp)
        return
    geo_decode(a, p)
    geo_decode(b, q)
    reply_distance(c, geo_distance(p[0], p[1], q[0], q[1]) / unit)


# ---- the rows

cdef i64 stores_at(Arg* argv, i64 argc, i64 first, i64* places, i64 most) noexcept nogil:
    """Keys of GEORADIUS: the set, and what the last STORE names."""
    cdef i64 i = first, store = 0
    while i + 1 < argc:
        if arg_is(&argv[i], b"store", 5) or arg_is(&argv[i], b"storedist", 9):
            store = i + 1
            i += 1
        i += 1
    if argc < 2:
        return 0
    if most >= 1:
        places[0] = 1
    if store and most >= 2:
        places[1] = store
    return 2 if store else 1


cdef i64 keys_georadius(Arg* argv, i64 argc, i64* places, i64 most) noexcept nogil:
    return stores_at(argv, argc, 5, places, most)


_NEAR = "O(N+log(M)), N the members in the areas looked at and M those of the set"

register("geoadd", -5, "write denyoom", (1, 1, 1), cmd_geoadd,
         about("3.2.0", "O(log(N)) a member", "Adds members with places.", "write geo slow", "geo"))
register("geodist", -4, "readonly", (1, 1, 1), cmd_geodist,
         about("3.2.0", "O(1)", "Says how far two members are apart.", "read geo slow", "geo"))
register("geohash", -2, "readonly", (1, 1, 1), cmd_geohash,
         about("3.2.0", "O(1) a member", "Shows members' places as geohashes.", "read geo slow", "geo"))
register("geopos", -2, "readonly", (1, 1, 1), cmd_geopos,
         about("3.2.0", "O(1) a member", "Shows members' longitude and latitude.", "read geo slow", "geo"))
_radius = register("georadius", -6, "write denyoom movablekeys lock=keys", (1, 1, 1), cmd_georadius,
                   about("3.2.0", _NEAR, "Finds members around a place.", "write geo slow", "geo"))
_bymember = register("georadiusbymember", -5, "write denyoom movablekeys lock=keys", (1, 1, 1), cmd_georadiusbymember,
                     about("3.2.0", _NEAR, "Finds members around a member.", "write geo slow", "geo"))
commands[<int>_radius["id"]].get_keys = keys_georadius
commands[<int>_bymember["id"]].get_keys = keys_georadius
register("georadius_ro", -6, "readonly", (1, 1, 1), cmd_georadius_ro,
         about("3.2.10", _NEAR, "Finds members around a place.", "read geo slow", "geo"))
register("georadiusbymember_ro", -5, "readonly", (1, 1, 1), cmd_georadiusbymember_ro,
         about("3.2.10", _NEAR, "Finds members around a member.", "read geo slow", "geo"))
register("geosearch", -7, "readonly", (1, 1, 1), cmd_geosearch,
         about("6.2.0", _NEAR, "Finds members in a circle, a box or a polygon.", "read geo slow", "geo"))
register("geosearchstore", -8, "write denyoom", (1, 2, 1), cmd_geosearchstore,
         about("6.2.0", _NEAR, "Stores the members in a circle, a box or a polygon.", "write geo slow", "geo"))
