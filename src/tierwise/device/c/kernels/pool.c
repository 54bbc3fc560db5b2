/* Average and maximum over windows; only what lies inside the image counts. */
#include "tw_kernels.h"
#include "tw_math.h"

typedef struct {
    int32_t y0, y1, x0, x1;
} window;

static window clip(const tw_pool_params *p, int32_t oy, int32_t ox) {
    const int32_t y = oy * p->stride_h - p->pad_h, x = ox * p->stride_w - p->pad_w;
    window w;
    w.y0 = y < 0 ? 0 : y;
    w.x0 = x < 0 ? 0 : x;
    w.y1 = y + p->filter_h < p->in_h ? y + p->filter_h : p->in_h;
    w.x1 = x + p->filter_w < p->in_w ? x + p->filter_w : p->in_w;
    return w;
}

static int32_t average(const int8_t *from, int32_t row, int32_t step, window w) {
    const int32_t count = (w.y1 - w.y0) * (w.x1 - w.x0);
    int32_t sum = 0;
    for (int32_t y = w.y0; y < w.y1; y++) {
        for (int32_t x = w.x0; x < w.x1; x++) {
            sum += from[y * row + x * step];
        }
    }
    return sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count;
}

static int32_t maximum(const int8_t *from, int32_t row, int32_t step, window w) {
    int32_t best = INT8_MIN;
    for (int32_t y = w.y0; y < w.y1; y++) {
        for (int32_t x = w.x0; x < w.x1; x++) {
            const int32_t value = from[y * row + x * step];
            best = value > best ? value : best;
        }
    }
    return best;
}

static void pool(const tw_pool_params *p, const int8_t *in, int8_t *out,
                 int32_t (*reduce)(const int8_t *, int32_t, int32_t, window)) {
    for (int32_t n = 0; n < p->batch; n++, in += p->in_h * p->in_w * p->channels) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            for (int32_t ox = 0; ox < p->out_w; ox++) {
                const window w = clip(p, oy, ox);
                for (int32_t c = 0; c < p->channels; c++) {
                    const int32_t value = reduce(in + c, p->in_w * p->channels, p->channels, w);
                    *out++ = (int8_t)tw_clamp(value, p->low, p->high);
                }
            }
        }
    }
}

void tw_average_pool(const tw_pool_params *p, const int8_t *in, int8_t *out) { pool(p, in, out, average); }

void tw_max_pool(const tw_pool_params *p, const int8_t *in, int8_t *out) { pool(p, in, out, maximum); }
