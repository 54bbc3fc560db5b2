/* Softmax over the last dimension. exp of a difference to the row's largest value comes from a table in Q0.31; sums
 * are Q12.19; the reciprocal is three Newton-Raphson steps in Q2.29. */
#include "tw_kernels.h"
#include "tw_math.h"

static int32_t leading_zeros(uint32_t value) {
    int32_t count = 0;
    for (; value < 0x80000000u; value <<= 1) {
        count++;
    }
    return count;
}

/* 1 / (1 + a) for a in (0, 1), both Q0.31. */
static int32_t one_over_one_plus(int32_t a) {
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) / 2);
    int32_t x = 1515870810 + tw_doubling_high_mul(half, -1010580540); /* 48/17 - 32/17 * half */
    for (int step = 0; step < 3; step++) {
        const int32_t rest = (1 << 29) - tw_doubling_high_mul(half, x);
        x += tw_doubling_high_mul(x, rest) * 4;
    }
    return x >= 1 << 30 ? INT32_MAX : x * 2;
}

static int32_t exp_at(const tw_softmax_params *p, int32_t difference) {
    return difference < p->table_size ? p->exp_table[difference] : 0;
}

void tw_softmax(const tw_softmax_params *p, const int8_t *in, int8_t *out) {
    for (int32_t row = 0; row < p->rows; row++, in += p->depth, out += p->depth) {
        int32_t largest = INT8_MIN;
        for (int32_t c = 0; c < p->depth; c++) {
            largest = in[c] > largest ? in[c] : largest;
        }
        uint32_t sum = 0;
        for (int32_t c = 0; c < p->depth; c++) {
            sum += (uint32_t)tw_rounding_shift_right(exp_at(p, largest - in[c]), 12);
        }
        const int32_t zeros = leading_zeros(sum);
        const int32_t scale = one_over_one_plus((int32_t)((sum << zeros) - 0x80000000u));
        const int32_t exponent = 12 - zeros + 31 - 8;
        for (int32_t c = 0; c < p->depth; c++) {
            const int32_t product = tw_doubling_high_mul(scale, exp_at(p, largest - in[c]));
            /* Beyond 31 bits (hundreds of equal classes) nothing is left of any of them. */
            const int32_t value = (exponent > 31 ? 0 : tw_rounding_shift_right(product, exponent)) + INT8_MIN;
            out[c] = (int8_t)tw_clamp(value, INT8_MIN, INT8_MAX);
        }
    }
}
