/* Between real numbers and int8, where a model takes or gives float32. */
#include "tw_kernels.h"
#include "tw_math.h"

/* Nearest integer, halves away from zero; saturates far outside int8, and NaN becomes 0. */
static int32_t nearest(float value) {
    if (value != value) {
        return 0;
    }
    if (value >= 65536.0f) {
        return 65536;
    }
    if (value <= -65536.0f) {
        return -65536;
    }
    const int32_t whole = (int32_t)value;
    const float rest = value - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

void tw_quantize(const tw_affine_params *p, const float *in, int8_t *out) {
    for (int32_t i = 0; i < p->size; i++) {
        out[i] = (int8_t)tw_clamp(nearest(in[i] / p->scale) + p->zero, INT8_MIN, INT8_MAX);
    }
}

void tw_dequantize(const tw_affine_params *p, const int8_t *in, float *out) {
    for (int32_t i = 0; i < p->size; i++) {
        out[i] = p->scale * (float)(in[i] - p->zero);
    }
}
