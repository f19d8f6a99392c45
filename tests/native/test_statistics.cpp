#include "errors.hpp"
#include "harness/statistics.hpp"

#include <doctest.h>
#include <vector>

using doctest::Approx;

TEST_SUITE("statistics") {
  TEST_CASE("quantiles interpolate between order statistics") {
    const std::vector<double> sorted{1, 2, 3, 4};
    CHECK(predictor::quantile(sorted, 0.5) == Approx(2.5));
    CHECK(predictor::quantile(sorted, 0.1) == Approx(1.3));
    CHECK(predictor::quantile(sorted, 1.0) == 4.0);
    CHECK(predictor::quantile(std::vector<double>{7}, 0.9) == 7.0);
  }

  // Tables of the sign test at 95 %: n = 6 keeps all, n = 20 the 6th and 15th, n = 100 the 40th
  // and 61st order statistic.
  TEST_CASE("the ranks of the median's interval are the binomial ones") {
    using Ranks = std::pair<std::size_t, std::size_t>;
    CHECK(predictor::median_interval_ranks(1) == Ranks{0, 0});
    CHECK(predictor::median_interval_ranks(5) == Ranks{0, 4});
    CHECK(predictor::median_interval_ranks(6) == Ranks{0, 5});
    CHECK(predictor::median_interval_ranks(20) == Ranks{5, 14});
    CHECK(predictor::median_interval_ranks(100) == Ranks{39, 60});
    const auto [low, high] = predictor::median_interval_ranks(2000);
    CHECK(low == Approx(955).epsilon(0.002));
    CHECK(low + high == 1999);
  }

  TEST_CASE("a summary has hand values") {
    const predictor::Summary summary = predictor::summarise(std::vector<double>{5, 1, 2, 4, 3});
    CHECK(summary.median == 3.0);
    CHECK(summary.low == 1.0);
    CHECK(summary.high == 5.0);
    CHECK(summary.mad == 1.0);
    CHECK(summary.p10 == Approx(1.4));
    CHECK(summary.p90 == Approx(4.6));
  }

  TEST_CASE("drift is the change over the whole series, relative to its mean") {
    CHECK(predictor::relative_drift(std::vector<double>{1, 2, 3}) == Approx(1.0));
    CHECK(predictor::relative_drift(std::vector<double>{2, 2, 2}) == 0.0);
    CHECK(predictor::relative_drift(std::vector<double>{2}) == 0.0);
  }

  TEST_CASE("alternating samples correlate negatively, trending ones positively") {
    CHECK(predictor::lag1_autocorrelation(std::vector<double>{1, 2, 1, 2}) == Approx(-0.75));
    CHECK(predictor::lag1_autocorrelation(std::vector<double>{1, 2, 3, 4}) == Approx(0.25));
    CHECK(predictor::lag1_autocorrelation(std::vector<double>{1, 1, 1}) == 0.0);
  }

  TEST_CASE("no samples have no summary") {
    CHECK_THROWS_AS((void)predictor::summarise(std::vector<double>{}), predictor::NativeError);
  }
}
