/* The ARMv7E-M instructions that the fast kernels use, and the same arithmetic in C for every other processor, so
 * that a host build tests the very code that runs on the Cortex-M4. A word holds two signed halfwords. */
#ifndef TW_DSP_H
#define TW_DSP_H

#include <stdint.h>
#include <string.h>

#include "tw_kernels.h"

/* Four bytes from any address: one LDR where unaligned loads are allowed. */
static inline uint32_t tw_load4(const int8_t *from) {
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Two halfwords from a word-aligned address. */
static inline uint32_t tw_load2x16(const int16_t *from) {
    uint32_t word;
    memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
    return word;
}

/* Two halfwords to any address. */
static inline void tw_store2x16(int16_t *to, uint32_t word) { memcpy(to, &word, sizeof word); }

#if defined(__ARM_FEATURE_DSP)

#include <arm_acle.h>

static inline uint32_t tw_sxtb16(uint32_t w) { return (uint32_t)__sxtb16((int8x4_t)w); }

static inline uint32_t tw_sxtb16_ror8(uint32_t w) {
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(w));
    return result;
}

static inline uint32_t tw_sxtab16(uint32_t a, uint32_t w) { return (uint32_t)__sxtab16((int16x2_t)a, (int8x4_t)w); }

static inline uint32_t tw_sxtab16_ror8(uint32_t a, uint32_t w) {
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(a), "r"(w));
    return result;
}

static inline uint32_t tw_pkhbt(uint32_t low, uint32_t high) {
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(low), "r"(high));
    return result;
}

static inline uint32_t tw_pkhtb(uint32_t high, uint32_t low) {
    uint32_t result;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(high), "r"(low));
    return result;
}

static inline int32_t tw_smlad(uint32_t a, uint32_t b, int32_t sum) {
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
}

/* Four halfwords from a word-aligned address, which moves on behind them: one LDRD. */
static inline void tw_next4x16(const int16_t **from, uint32_t *first, uint32_t *second) {
    __asm__("ldrd %0, %1, [%2], #8"
            : "=&r"(*first), "=&r"(*second), "+r"(*from)
            : "m"(*(const int16_t(*)[4])*from));
}

static inline int32_t tw_smlabb(uint32_t a, uint32_t b, int32_t sum) {
    int32_t result;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

static inline int32_t tw_smlatt(uint32_t a, uint32_t b, int32_t sum) {
    int32_t result;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

static inline int32_t tw_smmulr(int32_t a, int32_t b) {
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

static inline int32_t tw_ssat8(int32_t value) {
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value));
    return result;
}

#else

static inline void tw_next4x16(const int16_t **from, uint32_t *first, uint32_t *second) {
    *first = tw_load2x16(*from);
    *second = tw_load2x16(*from + 2);
    *from += 4;
}

static inline int32_t tw_low(uint32_t w) { return (int16_t)(w & 0xFFFFu); }
static inline int32_t tw_high(uint32_t w) { return (int16_t)(w >> 16); }
static inline uint32_t tw_pair(int32_t low, int32_t high) { return ((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16; }
static inline int32_t tw_wrap_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

static inline uint32_t tw_sxtb16(uint32_t w) { return tw_pair((int8_t)(w & 0xFFu), (int8_t)(w >> 16 & 0xFFu)); }
static inline uint32_t tw_sxtb16_ror8(uint32_t w) { return tw_pair((int8_t)(w >> 8 & 0xFFu), (int8_t)(w >> 24)); }

static inline uint32_t tw_add2x16(uint32_t a, uint32_t b) {
    return tw_pair(tw_low(a) + tw_low(b), tw_high(a) + tw_high(b));
}

static inline uint32_t tw_sxtab16(uint32_t a, uint32_t w) { return tw_add2x16(a, tw_sxtb16(w)); }
static inline uint32_t tw_sxtab16_ror8(uint32_t a, uint32_t w) { return tw_add2x16(a, tw_sxtb16_ror8(w)); }
static inline uint32_t tw_pkhbt(uint32_t low, uint32_t high) { return (low & 0xFFFFu) | high << 16; }
static inline uint32_t tw_pkhtb(uint32_t high, uint32_t low) { return (high & 0xFFFF0000u) | low >> 16; }

static inline int32_t tw_smlad(uint32_t a, uint32_t b, int32_t sum) {
    return tw_wrap_add(tw_wrap_add(tw_low(a) * tw_low(b), tw_high(a) * tw_high(b)), sum);
}

static inline int32_t tw_smlabb(uint32_t a, uint32_t b, int32_t sum) { return tw_wrap_add(tw_low(a) * tw_low(b), sum); }
static inline int32_t tw_smlatt(uint32_t a, uint32_t b, int32_t sum) { return tw_wrap_add(tw_high(a) * tw_high(b), sum); }

static inline int32_t tw_smmulr(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + INT64_C(0x80000000)) >> 32);
}

static inline int32_t tw_ssat8(int32_t value) { return value < -128 ? -128 : value > 127 ? 127 : value; }

#endif

/* value * multiplier * 2^(shift - 31) for |value| < 2^30 and shift <= 0, as tw_multiply: SMMULR of the doubled value is
 * the doubling high multiplication, and adding the sign rounds halves away from zero. */
static inline int32_t tw_multiply_small(int32_t value, int32_t multiplier, int32_t shift) {
    int32_t result = tw_smmulr((int32_t)((uint32_t)value << 1), multiplier);
    if (shift != 0) {
        result += (result >> 31) + ((1 << -shift) >> 1);
    }
    return result >> -shift;
}

/* The constants of one output channel in registers. */
typedef struct {
    int32_t bias, multiplier, round, right;
} tw_factors;

/* Takes the next channel's constants. */
static inline tw_factors tw_next_factors(const tw_fast_channel **channel) {
    tw_factors f;
#if defined(__ARM_FEATURE_DSP)
    __asm__("ldrd %0, %1, [%4], #16\n ldrd %2, %3, [%4, #-8]"
            : "=&r"(f.bias), "=&r"(f.multiplier), "=&r"(f.round), "=&r"(f.right), "+r"(*channel)
            : "m"(**channel));
#else
    f = (tw_factors){(*channel)->bias, (*channel)->multiplier, (*channel)->round, (*channel)->right};
    ++*channel;
#endif
    return f;
}

/* One output from its sum, requantised as in tw_multiply_small; the compiler checks shift and bounds. */
static inline int8_t tw_finish(tw_factors f, int32_t sum) {
    int32_t value = tw_smmulr((int32_t)((uint32_t)(f.bias + sum) << 1), f.multiplier);
    if (f.right != 0) {
        value += value >> 31;
    }
    return (int8_t)tw_ssat8((value + f.round) >> f.right);
}

/* Fused activations that SSAT does not cover: clamps what a layer has written. */
static inline void tw_clamp_all(int8_t *out, int32_t count, int32_t low, int32_t high) {
    if (low > INT8_MIN || high < INT8_MAX) {
        for (int32_t i = 0; i < count; i++) {
            out[i] = (int8_t)(out[i] < low ? low : out[i] > high ? high : out[i]);
        }
    }
}

#endif
