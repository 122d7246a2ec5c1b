# Places on the earth as 52 interleaved bits (26 of latitude in the even places, 26 of longitude in the odd ones), as
# sorted sets keep them in scores, and the areas that a search has to look at. The constants, and the order of the
# floating point operations, are Valkey's: its digits depend on them.
from engine.defs cimport *

cdef enum:
    GEO_STEP_MAX = 26
    GEO_AREAS = 9

    SHAPE_CIRCLE = 1
    SHAPE_BOX = 2
    SHAPE_POLYGON = 3

cdef struct GeoShape:              # what a search asks for
    int type_
    double xy[2]                   # centre: longitude, latitude, degrees; of a polygon: set by geo_areas
    double conversion              # metres of a unit
    double radius                  # units
    double width
    double height
    double* points                 # of a polygon: longitude, latitude, …; malloc'ed by the caller
    i64 n

cdef struct GeoRange:              # scores: low included, high not
    u64 low
    u64 high
    bint used

cdef bint geo_valid(double lon, double lat) noexcept nogil
cdef u64 geo_score(double lon, double lat) noexcept nogil
cdef u64 geo_standard(double lon, double lat) noexcept nogil             # 52 bits of the public geohash
cdef void geo_decode(double score, double* xy) noexcept nogil
cdef double geo_distance(double lon1, double lat1, double lon2, double lat2) noexcept nogil    # metres
cdef bint geo_within(GeoShape* s, double score, double* xy, double* distance) noexcept nogil
cdef void geo_areas(GeoShape* s, GeoRange* areas) noexcept nogil         # GEO_AREAS of them, in the order of looking
