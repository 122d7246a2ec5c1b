# slotring: data plane
"""Geohashes; see geohash.pxd."""
from engine.defs cimport *

cdef extern from *:
    """
    #pragma GCC optimize ("fp-contract=off")
    """
    # no fused multiply-add: the last digit would differ from Valkey's

cdef extern from "<math.h>" nogil:
    double sin(double)
    double cos(double)
    double asin(double)
    double atan2(double, double)
    double sqrt(double)
    double fabs(double)
    double M_PI

cdef double LAT_MIN = -85.05112878
cdef double LAT_MAX = 85.05112878
cdef double LON_MIN = -180
cdef double LON_MAX = 180
cdef double EARTH_M = 6372797.560856
cdef double MERCATOR_MAX = 20037726.37
cdef u64 EVEN = 0x5555555555555555
cdef u64 ODD = <u64>0xAAAAAAAAAAAAAAAA

cdef struct Area:                  # of a hash with `step` bits a coordinate; all zero: none
    u64 bits
    u32 step


cdef inline double radians(double degrees) noexcept nogil:
    return degrees * (M_PI / 180.0)


cdef inline double degrees(double radians_) noexcept nogil:
    return radians_ / (M_PI / 180.0)


cdef inline u64 spread(u64 v) noexcept nogil:
    """The low 32 bits to the even places."""
    v = (v | (v << 16)) & <u64>0x0000FFFF0000FFFF
    v = (v | (v << 8)) & <u64>0x00FF00FF00FF00FF
    v = (v | (v << 4)) & <u64>0x0F0F0F0F0F0F0F0F
    v = (v | (v << 2)) & <u64>0x3333333333333333
    return (v | (v << 1)) & EVEN


cdef inline u32 gather(u64 v) noexcept nogil:
    """The even places to the low 32 bits."""
    v &= EVEN
    v = (v | (v >> 1)) & <u64>0x3333333333333333
    v = (v | (v >> 2)) & <u64>0x0F0F0F0F0F0F0F0F
    v = (v | (v >> 4)) & <u64>0x00FF00FF00FF00FF
    v = (v | (v >> 8)) & <u64>0x0000FFFF0000FFFF
    return <u32>(v | (v >> 16))


cdef bint geo_valid(double lon, double lat) noexcept nogil:
    return LON_MIN <= lon <= LON_MAX and LAT_MIN <= lat <= LAT_MAX


cdef u64 encode(double lon, double lat, double lat_min, double lat_max, u32 step) noexcept nogil:
    cdef double y = (lat - lat_min) / (lat_max - lat_min)
    cdef double x = (lon - LON_MIN) / (LON_MAX - LON_MIN)
    y *= <double>(<u64>1 << step)
    x *= <double>(<u64>1 << step)
    return spread(<u32>y) | (spread(<u32>x) << 1)


cdef u64 geo_score(double lon, double lat) noexcept nogil:
    return encode(lon, lat, LAT_MIN, LAT_MAX, GEO_STEP_MAX)


cdef u64 geo_standard(double lon, double lat) noexcept nogil:
    return encode(lon, lat, -90, 90, GEO_STEP_MAX)


cdef void bounds_of(u64 bits, u32 step, double* low, double* high) noexcept nogil:
    """Corners of a hash's area: low and high longitude and latitude."""
    cdef u32 y = gather(bits), x = gather(bits >> 1)
    cdef double cells = <double>(<u64>1 << step)
    cdef double lat_scale = LAT_MAX - LAT_MIN, lon_scale = LON_MAX - LON_MIN
    low[0] = LON_MIN + (x * 1.0 / cells) * lon_scale
    high[0] = LON_MIN + (<u32>(x + 1) * 1.0 / cells) * lon_scale
    low[1] = LAT_MIN + (y * 1.0 / cells) * lat_scale
    high[1] = LAT_MIN + (<u32>(y + 1) * 1.0 / cells) * lat_scale


cdef void geo_decode(double score, double* xy) noexcept nogil:
    """The middle of a score's area."""
    cdef double low[2]
    cdef double high[2]
    cdef u64 bits
    if score < 9223372036854775808.0:
        bits = <u64><i64>score
    else:                                  # as processors without an instruction of their own do it
        bits = <u64><i64>(score - 9223372036854775808.0) ^ (<u64>1 << 63)
    bounds_of(bits, GEO_STEP_MAX, low, high)
    xy[0] = (low[0] + high[0]) / 2
    xy[1] = (low[1] + high[1]) / 2
    xy[0] = LON_MAX if xy[0] > LON_MAX else (LON_MIN if xy[0] < LON_MIN else xy[0])
    xy[1] = LAT_MAX if xy[1] > LAT_MAX else (LAT_MIN if xy[1] < LAT_MIN else xy[1])


# ---- distances and shapes

cdef inline double lat_distance(double lat1, double lat2) noexcept nogil:
    return EARTH_M * fabs(radians(lat2) - radians(lat1))


cdef double geo_distance(double lon1, double lat1, double lon2, double lat2) noexcept nogil:
    """Haversine; on one meridian simply the arc."""
    cdef double lon1r = radians(lon1), lon2r = radians(lon2), lat1r, lat2r, u, a
    cdef double v = sin((lon2r - lon1r) / 2)
    if fabs(v) <= 1e-15:
        return lat_distance(lat1, lat2)
    lat1r = radians(lat1)
    lat2r = radians(lat2)
    u = sin((lat2r - lat1r) / 2)
    a = u * u + cos(lat1r) * cos(lat2r) * v * v
    return 2.0 * EARTH_M * asin(sqrt(a))


cdef bint in_polygon(GeoShape* s, double* xy) noexcept nogil:
    """Does a ray from the point cross the outline an odd number of times?"""
    cdef bint inside = False
    cdef i64 i
    cdef double* a
    cdef double* b = &s.points[2 * (s.n - 1)]
    for i in range(s.n):
        a = &s.points[2 * i]
        if (a[1] > xy[1]) != (b[1] > xy[1]) and \
                xy[0] < (b[0] - a[0]) * (xy[1] - a[1]) / (b[1] - a[1]) + a[0]:
            inside = not inside
        b = a
    return inside


cdef bint geo_within(GeoShape* s, double score, double* xy, double* distance) noexcept nogil:
    """Is the place of a score in the shape? Its coordinates and its distance from the centre are told."""
    geo_decode(score, xy)
    if s.type_ == SHAPE_CIRCLE:
        distance[0] = geo_distance(s.xy[0], s.xy[1], xy[0], xy[1])
        return not distance[0] > s.radius * s.conversion
    if s.type_ == SHAPE_BOX:
        if lat_distance(xy[1], s.xy[1]) > s.height * s.conversion / 2:
            return False
        if geo_distance(xy[0], xy[1], s.xy[0], xy[1]) > s.width * s.conversion / 2:
            return False
    elif not in_polygon(s, xy):
        return False
    distance[0] = geo_distance(s.xy[0], s.xy[1], xy[0], xy[1])
    return True


# ---- the areas of a search

cdef void polygon_bounds(GeoShape* s, double* low, double* high) noexcept nogil:
    """Corners of a polygon, and its centre from the sum of its vertices as vectors."""
    cdef double x = 0, y = 0, z = 0, lon, lat
    cdef i64 i
    low[0] = LON_MAX
    high[0] = LON_MIN
    low[1] = LAT_MAX
    high[1] = LAT_MIN
    for i in range(s.n):
        lon = s.points[2 * i]
        lat = s.points[2 * i + 1]
        if lon < low[0]:
            low[0] = lon
        if lon > high[0]:
            high[0] = lon
        if lat < low[1]:
            low[1] = lat
        if lat > high[1]:
            high[1] = lat
        lon = radians(lon)
        lat = radians(lat)
        x += cos(lat) * cos(lon)
        y += cos(lat) * sin(lon)
        z += sin(lat)
    s.xy[0] = degrees(atan2(y, x))
    s.xy[1] = degrees(atan2(z, sqrt(x * x + y * y)))


cdef void shape_bounds(GeoShape* s, double* low, double* high) noexcept nogil:
    """Corners of a shape."""
    cdef double width, height, lat_delta, top, bottom, delta
    if s.type_ == SHAPE_POLYGON:
        polygon_bounds(s, low, high)
        return
    if s.type_ == SHAPE_CIRCLE:
        height = width = s.conversion * s.radius
    else:
        height = s.conversion * s.height / 2
        width = s.conversion * s.width / 2
    lat_delta = degrees(height / EARTH_M)
    top = degrees(width / EARTH_M / cos(radians(s.xy[1] + lat_delta)))
    bottom = degrees(width / EARTH_M / cos(radians(s.xy[1] - lat_delta)))
    delta = bottom if s.xy[1] < 0 else top
    low[0] = s.xy[0] - delta
    high[0] = s.xy[0] + delta
    low[1] = s.xy[1] - lat_delta
    high[1] = s.xy[1] + lat_delta


cdef double reach(GeoShape* s, double* low, double* high) noexcept nogil:
    """Metres from the centre that cover the shape."""
    cdef double most, d
    cdef int i
    if s.type_ == SHAPE_CIRCLE:
        return s.radius * s.conversion
    if s.type_ == SHAPE_BOX:
        return sqrt((s.width / 2) * (s.width / 2) + (s.height / 2) * (s.height / 2)) * s.conversion
    most = 0
    for i in range(4):
        d = geo_distance(s.xy[0], s.xy[1], high[0] if i & 1 else low[0], high[1] if i & 2 else low[1])
        if d > most:
            most = d
    return most * s.conversion


cdef u32 steps_for(double metres, double lat) noexcept nogil:
    """Bits a coordinate so that nine areas cover a radius."""
    cdef int step = 1
    if metres == 0:
        return GEO_STEP_MAX
    while metres < MERCATOR_MAX:
        metres *= 2
        step += 1
    step -= 2
    if lat > 66 or lat < -66:              # meridians are closer there
        step -= 1
        if lat > 80 or lat < -80:
            step -= 1
    if step < 1:
        return 1
    return GEO_STEP_MAX if step > GEO_STEP_MAX else <u32>step


cdef Area moved(Area a, int east, int north) noexcept nogil:
    """A neighbour: one of the two interleaved numbers, or both, one up or down; it wraps around.

    At the very edge (180 degrees) a number has a bit too many, which goes only where the number moves."""
    cdef u64 all_ = <u64>-1 >> (64 - a.step * 2)
    cdef u64 x = a.bits & ODD, y = a.bits & EVEN
    if east:
        x = ((x | (EVEN & all_)) + 1 if east > 0 else x - 1) & ODD & all_
    if north:
        y = ((y | (ODD & all_)) + 1 if north > 0 else y - 1) & EVEN & all_
    a.bits = x | y
    return a


cdef void neighbours(GeoShape* s, u32 step, Area* areas) noexcept nogil:
    """The centre's area and those around it: N S E W, NE NW SE SW."""
    areas[0].step = step
    areas[0].bits = encode(s.xy[0], s.xy[1], LAT_MIN, LAT_MAX, step) if geo_valid(s.xy[0], s.xy[1]) else 0
    areas[1] = moved(areas[0], 0, 1)
    areas[2] = moved(areas[0], 0, -1)
    areas[3] = moved(areas[0], 1, 0)
    areas[4] = moved(areas[0], -1, 0)
    areas[5] = moved(areas[0], 1, 1)
    areas[6] = moved(areas[0], -1, 1)
    areas[7] = moved(areas[0], 1, -1)
    areas[8] = moved(areas[0], -1, -1)


cdef bint falls_short(Area* areas, double* low, double* high) noexcept nogil:
    """Does the shape reach beyond the areas around?"""
    cdef double a[2]
    cdef double b[2]
    bounds_of(areas[1].bits, areas[1].step, a, b)
    if b[1] < high[1]:
        return True
    bounds_of(areas[2].bits, areas[2].step, a, b)
    if a[1] > low[1]:
        return True
    bounds_of(areas[3].bits, areas[3].step, a, b)
    if b[0] < high[0]:
        return True
    bounds_of(areas[4].bits, areas[4].step, a, b)
    return a[0] > low[0]


cdef void drop(Area* areas, u32 which) noexcept nogil:
    cdef u32 i
    for i in range(GEO_AREAS):
        if which >> i & 1:
            areas[i].bits = 0
            areas[i].step = 0


cdef void geo_areas(GeoShape* s, GeoRange* ranges) noexcept nogil:
    cdef Area areas[GEO_AREAS]
    cdef double low[2]
    cdef double high[2]
    cdef double a[2]
    cdef double b[2]
    cdef u32 step, i, last = 0, shift
    shape_bounds(s, low, high)
    step = steps_for(reach(s, low, high), s.xy[1])
    neighbours(s, step, areas)
    if step > 1 and falls_short(areas, low, high):
        step -= 1
        neighbours(s, step, areas)
    if step >= 2:                          # sides that the shape does not reach
        bounds_of(areas[0].bits, step, a, b)
        if a[1] < low[1]:
            drop(areas, 1 << 2 | 1 << 7 | 1 << 8)
        if b[1] > high[1]:
            drop(areas, 1 << 1 | 1 << 5 | 1 << 6)
        if a[0] < low[0]:
            drop(areas, 1 << 4 | 1 << 6 | 1 << 8)
        if b[0] > high[0]:
            drop(areas, 1 << 3 | 1 << 5 | 1 << 7)
    for i in range(GEO_AREAS):
        ranges[i].used = areas[i].bits or areas[i].step
        # with very large shapes neighbours may be the same area
        if last and areas[i].bits == areas[last].bits and areas[i].step == areas[last].step:
            ranges[i].used = False
        if not ranges[i].used:
            continue
        shift = 52 - areas[i].step * 2
        ranges[i].low = areas[i].bits << shift
        ranges[i].high = (areas[i].bits + 1) << shift
        last = i
