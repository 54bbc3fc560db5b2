/* Addition and multiplication of two tensors, with broadcasting. */
#include "tw_dsp.h"
#include "tw_kernels.h"
#include "tw_math.h"

static inline int32_t add(const tw_binary_params *p, int32_t a, int32_t b) {
    /* 20 bits of headroom, as the reference has, before both sides are brought to one scale: 28 bits and a sign. */
    const int32_t left = tw_multiply_small((a - p->zero_a) * (1 << 20), p->multiplier_a, p->shift_a);
    const int32_t right = tw_multiply_small((b - p->zero_b) * (1 << 20), p->multiplier_b, p->shift_b);
    return tw_multiply_small(left + right, p->multiplier_out, p->shift_out) + p->zero_out;
}

static inline int32_t mul(const tw_binary_params *p, int32_t a, int32_t b) {
    return tw_multiply((a - p->zero_a) * (b - p->zero_b), p->multiplier_out, p->shift_out) + p->zero_out;
}

/* Walks the four dimensions of the output; the innermost loop is all that costs. */
#define TW_EACH(operation)                                                                             \
    const tw_binary_params copy = *p; /* bytes written to `out` cannot change it: it stays in registers */ \
    for (int32_t i = 0; i < p->dims[0]; i++) {                                                         \
        for (int32_t j = 0; j < p->dims[1]; j++) {                                                     \
            for (int32_t k = 0; k < p->dims[2]; k++) {                                                 \
                const int8_t *at = a + i * p->stride_a[0] + j * p->stride_a[1] + k * p->stride_a[2];   \
                const int8_t *bt = b + i * p->stride_b[0] + j * p->stride_b[1] + k * p->stride_b[2];   \
                for (int32_t l = 0; l < p->dims[3]; l++) {                                             \
                    *out++ = (int8_t)tw_clamp(operation(&copy, *at, *bt), copy.low, copy.high);        \
                    at += p->stride_a[3];                                                              \
                    bt += p->stride_b[3];                                                              \
                }                                                                                      \
            }                                                                                          \
        }                                                                                              \
    }

void tw_add(const tw_binary_params *p, const int8_t *a, const int8_t *b, int8_t *out) { TW_EACH(add) }

void tw_mul(const tw_binary_params *p, const int8_t *a, const int8_t *b, int8_t *out) { TW_EACH(mul) }
