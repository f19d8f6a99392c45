#include "errors.hpp"
#include "fields.hpp"

#include <doctest.h>

using predictor::Fields;

TEST_SUITE("fields") {
  TEST_CASE("each type is read back by name") {
    const Fields fields({{"m", std::int64_t{3}}, {"bias", true}, {"dtype", std::string("bf16")}});
    CHECK(fields.positive("m") == 3);
    CHECK(fields.flag("bias", false));
    CHECK(fields.text("dtype") == "bf16");
    CHECK(fields.integer("window", 0) == 0);
    CHECK(fields.describe() == "bias=true dtype=bf16 m=3");
  }

  TEST_CASE("a list of counts is described by its length") {
    const Fields fields({{"counts", std::vector<std::int64_t>{5, 0, 7}},
                         {"short", std::vector<std::int64_t>{-1}},
                         {"n", std::int64_t{8}}});
    CHECK(fields.counts("counts") == std::vector<std::int64_t>{5, 0, 7});
    CHECK(fields.describe() == "counts=[3] n=8 short=[1]");
    CHECK_THROWS_AS((void)fields.counts("short"), predictor::NativeError);
    CHECK_THROWS_AS((void)fields.counts("n"), predictor::NativeError);
    CHECK_THROWS_WITH_AS((void)fields.counts("k"), "field 'k' is missing", predictor::NativeError);
  }

  TEST_CASE("an absent, mistyped or non-positive field is named") {
    const Fields fields({{"m", std::int64_t{0}}, {"n", std::string("8")}});
    CHECK_THROWS_WITH_AS((void)fields.positive("k"), "field 'k' is missing",
                         predictor::NativeError);
    CHECK_THROWS_WITH_AS((void)fields.integer("n"), "field 'n' must be an integer",
                         predictor::NativeError);
    CHECK_THROWS_WITH_AS((void)fields.positive("m"), "field 'm' must be at least 1, not 0",
                         predictor::NativeError);
  }
}
