/* The functions of which exported networks of 8 bits consist. A C file is given those
 * that every network has, and of the others those that it calls. */
/* [common] */
/* A layer: x[C][H][W], y[F][Ho][Wo]; q stands for the number scale * (q - zero). */
struct layer {
    int C, H, W, F, Ho, Wo, kh, kw, sh, sw, ph, pw, zero_in, zero_out, lowest;
};

/* bias + the sum over c, m, n of weight[C][kh][kw] * (x - zero_in) at place (i, j); outside, 0. */
static int32_t sum_at(const int8_t *x, const struct layer *s, const int8_t *weight, int32_t bias,
                      int i, int j)
{
    int32_t sum = bias;
    int h = i * s->sh - s->ph, w = j * s->sw - s->pw, zero = s->zero_in;
    int top = h < 0 ? -h : 0, bottom = s->H - h < s->kh ? s->H - h : s->kh;
    int left = w < 0 ? -w : 0, right = s->W - w < s->kw ? s->W - w : s->kw;
    for (int c = 0; c < s->C; c++, x += s->H * s->W)
        for (int m = 0; m < s->kh; m++, weight += s->kw) {
            int k = (h + m) * s->W + w;
            if (m >= top && m < bottom)
                for (int n = left; n < right; n++)
                    sum += weight[n] * (x[k + n] - zero);
        }
    return sum;
}

/* The last layer: its sums are the scores. */
static void scored(const int8_t *x, const struct layer *s, const int8_t *weight,
                   const int32_t *bias, int32_t *scores)
{
    for (int f = 0; f < s->F; f++, weight += s->C * s->kh * s->kw)
        scores[f] = sum_at(x, s, weight, bias[f], 0, 0);
}

/* [requantized] */
/* floor(sum * multiplier / 2^shift + 1/2) + zero, not below lowest and not above 127. */
static int8_t requantized(int32_t sum, int32_t multiplier, int shift, int zero, int lowest)
{
    int64_t half = (int64_t)1 << (shift - 1), product = (int64_t)sum * multiplier + half;
    int64_t q = product >= 0 ? product >> shift : -((-product + 2 * half - 1) >> shift);
    q += zero;
    return (int8_t)(q < lowest ? lowest : q > 127 ? 127 : q);
}

/* [weighted] */
static void weighted(const int8_t *x, const struct layer *s, const int8_t *weight,
                     const int32_t *bias, const int32_t *multiplier, const int8_t *shift, int8_t *y)
{
    for (int f = 0; f < s->F; f++, weight += s->C * s->kh * s->kw)
        for (int i = 0; i < s->Ho; i++)
            for (int j = 0; j < s->Wo; j++)
                *y++ = requantized(sum_at(x, s, weight, bias[f], i, j), multiplier[f], shift[f],
                                   s->zero_out, s->lowest);
}

/* [max_pooling] */
static void max_pooling(const int8_t *x, const struct layer *s, int8_t *y)
{
    for (int c = 0; c < s->C; c++, x += s->H * s->W)
        for (int i = 0; i < s->Ho; i++)
            for (int j = 0; j < s->Wo; j++, y++) {
                *y = -128;
                for (int m = 0; m < s->kh; m++)
                    for (int n = 0; n < s->kw; n++) {
                        int8_t q = x[(i * s->sh + m) * s->W + j * s->sw + n];
                        *y = q > *y ? q : *y;
                    }
            }
}

/* [average_pooling] */
static void average_pooling(const int8_t *x, const struct layer *s, const int32_t *multiplier,
                            const int8_t *shift, int8_t *y)
{
    for (int c = 0; c < s->C; c++, x += s->H * s->W)
        for (int i = 0; i < s->Ho; i++)
            for (int j = 0; j < s->Wo; j++) {
                int32_t sum = 0;
                for (int m = 0; m < s->kh; m++)
                    for (int n = 0; n < s->kw; n++)
                        sum += x[(i * s->sh + m) * s->W + j * s->sw + n] - s->zero_in;
                *y++ = requantized(sum, *multiplier, *shift, s->zero_out, s->lowest);
            }
}

/* [isimage] */
/* Whether the levels of an image differ by more than 1. */
static int is_image(const unsigned char *bytes)
{
    int minimum = 255, maximum = 0;
    for (int k = 0; k < LENET_PIXELS; k++) {
        minimum = bytes[k] < minimum ? bytes[k] : minimum;
        maximum = bytes[k] > maximum ? bytes[k] : maximum;
    }
    return maximum - minimum > 1;
}

/* [definitions] */
void lenet_scores(const unsigned char image[LENET_PIXELS], int32_t scores[LENET_CLASSES])
{
    scores_of(image, scores);
}

/* [declarations] */
/* The scores of all classes, in units of @UNIT@. */
void lenet_scores(const unsigned char image[LENET_PIXELS], int32_t scores[LENET_CLASSES]);
