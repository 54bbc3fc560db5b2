/* Mean over any dimensions of up to four. The division by the count is part of the multiplier. */
#include "tw_kernels.h"
#include "tw_math.h"

static int32_t sum_at(const tw_mean_params *p, const int8_t *in) {
    int32_t sum = 0;
    for (int32_t i = 0; i < p->reduced_dims[0]; i++) {
        for (int32_t j = 0; j < p->reduced_dims[1]; j++) {
            for (int32_t k = 0; k < p->reduced_dims[2]; k++) {
                for (int32_t l = 0; l < p->reduced_dims[3]; l++) {
                    sum += in[i * p->reduced_strides[0] + j * p->reduced_strides[1] + k * p->reduced_strides[2] +
                              l * p->reduced_strides[3]];
                }
            }
        }
    }
    return sum;
}

void tw_mean(const tw_mean_params *p, const int8_t *in, int8_t *out) {
    for (int32_t i = 0; i < p->out_dims[0]; i++) {
        for (int32_t j = 0; j < p->out_dims[1]; j++) {
            for (int32_t k = 0; k < p->out_dims[2]; k++) {
                for (int32_t l = 0; l < p->out_dims[3]; l++) {
                    const int32_t at = i * p->out_strides[0] + j * p->out_strides[1] + k * p->out_strides[2] +
                                       l * p->out_strides[3];
                    const int32_t value = tw_multiply(sum_at(p, in + at) + p->bias, p->multiplier, p->shift);
                    *out++ = (int8_t)tw_clamp(value + p->out_zero, INT8_MIN, INT8_MAX);
                }
            }
        }
    }
}
