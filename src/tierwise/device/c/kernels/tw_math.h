/* Requantisation exactly as TensorFlow Lite's int8 kernels do it: two roundings.
 *
 * A real factor is multiplier * 2^(shift - 31). The doubling high multiplication rounds halves upwards, the division
 * by a power of two rounds halves away from zero. Signed right shifts are arithmetic on every compiler this is for. */
#ifndef TW_MATH_H
#define TW_MATH_H

#include <stdint.h>

static inline int32_t tw_doubling_high_mul(int32_t a, int32_t b) {
    if (a == INT32_MIN && b == INT32_MIN) {
        return INT32_MAX;
    }
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

static inline int32_t tw_rounding_shift_right(int32_t value, int32_t exponent) {
    const uint32_t mask = (UINT32_C(1) << exponent) - 1u;
    const uint32_t threshold = (mask >> 1) + (value < 0);
    return (value >> exponent) + (((uint32_t)value & mask) > threshold);
}

static inline int32_t tw_multiply(int32_t value, int32_t multiplier, int32_t shift) {
    if (shift > 0) {
        return tw_doubling_high_mul((int32_t)((uint32_t)value << shift), multiplier);
    }
    return tw_rounding_shift_right(tw_doubling_high_mul(value, multiplier), -shift);
}

static inline int32_t tw_clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

#endif
