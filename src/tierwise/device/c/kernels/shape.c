/* Moving values: concatenation (one call an input) and constant padding. */
#include <string.h>

#include "tw_kernels.h"

void tw_concat(const tw_concat_params *p, const int8_t *in, int8_t *out) {
    out += p->offset;
    for (int32_t i = 0; i < p->outer; i++, in += p->inner, out += p->stride) {
        memcpy(out, in, (size_t)p->inner);
    }
}

void tw_pad(const tw_pad_params *p, const int8_t *in, int8_t *out) {
    const int32_t *size = p->out_dims;
    memset(out, p->value, (size_t)(size[0] * size[1] * size[2] * size[3]));
    for (int32_t i = 0; i < p->in_dims[0]; i++) {
        for (int32_t j = 0; j < p->in_dims[1]; j++) {
            for (int32_t k = 0; k < p->in_dims[2]; k++, in += p->in_dims[3]) {
                const int32_t row = ((i + p->before[0]) * size[1] + j + p->before[1]) * size[2] + k + p->before[2];
                memcpy(out + row * size[3] + p->before[3], in, (size_t)p->in_dims[3]);
            }
        }
    }
}
