// SPDX-License-Identifier: Apache-2.0
//
// Claim: the shipped corpus is the text its manifest says, token files of every kind give their ids, an epoch visits
// each window once, and the order depends on seed and running number of the sequence alone. Alone: ctest --test-dir
// build -R unit_io_tokens
#include <algorithm>
#include <cmath>
#include <set>

#include "io_support.hpp"
#include "narrowgauge/base/sha256.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/token_stream.hpp"

namespace ng {
namespace {

using test::message_from;
using test::TempFolder;

const std::string kAusten = NG_SOURCE_DIR "/data/corpora/austen.toml";

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::vector<std::int32_t> ids_of(const TokenSource& source) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(source.tokens()));
  source.read(0, ids);
  return ids;
}

double entropy(const std::vector<std::int32_t>& ids) {
  std::vector<double> counts(256, 0.0);
  for (const std::int32_t id : ids) counts[static_cast<std::size_t>(id)] += 1;
  double sum = 0;
  for (const double count : counts) {
    if (count > 0) sum -= count / static_cast<double>(ids.size()) * std::log(count / static_cast<double>(ids.size()));
  }
  return sum;
}

TEST(Austen, IsWhatItsManifestSays) {
  const TokenSource austen = TokenSource::open(kAusten);
  EXPECT_EQ(austen.name(), "austen");
  EXPECT_EQ(austen.vocabulary(), 256);
  EXPECT_EQ(austen.tokens(), 4025029);
  EXPECT_EQ(austen.digest(), "65b434d16a8755142bfa95ba19c5f9abd0d30cf3dffe3b6793e834f9f56dcc96");
  EXPECT_NEAR(entropy(ids_of(austen)), 3.0918, 0.00005);
}

// Each novel begins with its title, ends with its last line, and its last tenth is held out.
TEST(Austen, SplitsAtTheNovels) {
  const TokenSource austen = TokenSource::open(kAusten);
  const char* titles[] = {"EMMA\n",       "MANSFIELD PARK\n",      "NORTHANGER ABBEY\n",
                          "Persuasion\n", "PRIDE AND PREJUDICE\n", "SENSE AND SENSIBILITY\n"};
  const std::vector<std::int32_t> ids = ids_of(austen);
  const std::string text(ids.begin(), ids.end());
  ASSERT_EQ(austen.train().size(), 6u);
  ASSERT_EQ(austen.heldout().size(), 6u);
  std::int64_t at = 0, heldout = 0;
  for (std::size_t i = 0; i < 6; ++i) {
    const TokenRange train = austen.train()[i], held = austen.heldout()[i];
    EXPECT_EQ(train.begin, at);
    EXPECT_EQ(train.end, held.begin);
    EXPECT_EQ(held.size(), (held.end - train.begin) / 10);
    EXPECT_EQ(text.substr(static_cast<std::size_t>(train.begin), std::string(titles[i]).size()), titles[i]);
    EXPECT_EQ(text[static_cast<std::size_t>(held.end) - 1], '\n');
    at = held.end;
    heldout += held.size();
  }
  EXPECT_EQ(at, austen.tokens());
  EXPECT_EQ(heldout, 402500);
}

TEST(Austen, AChangedTextIsRefused) {
  const TempFolder folder;
  std::string text = test::slurp(NG_SOURCE_DIR "/data/corpora/austen.txt");
  text[1000] ^= 1;
  test::spill(folder / "austen.txt", text);
  test::spill(folder / "austen.toml", test::slurp(kAusten));
  const std::string message = message_from([&] { TokenSource::open(folder / "austen.toml"); });
  EXPECT_NE(message.find("65b434d1"), std::string::npos) << message;
  EXPECT_NE(message.find("austen.txt"), std::string::npos) << message;
  std::filesystem::remove(folder / "austen.txt");
  EXPECT_NE(message_from([&] { TokenSource::open(folder / "austen.toml"); }).find("austen.txt"), std::string::npos);
}

TEST(TokenSource, ManifestMistakes) {
  const TempFolder folder;
  test::spill(folder / "t.txt", "hello, world");  // 12 tokens
  const std::string head =
      "name = 't'\nfile = 't.txt'\nsha256 = '09ca7e4eaa6e8ae9c7d261167129184883644d07dfba7cbfbc4c8a2e08360d5b'\n";
  const auto open = [&](const std::string& rest) {
    test::spill(folder / "t.toml", head + rest);
    return TokenSource::open(folder / "t.toml");
  };
  const std::string good = "format = 'bytes'\nvocabulary = 256\ntokens = 12\n";
  const TokenSource source =
      open(good + "part = [{ begin = 2, heldout = 6, end = 8 }, { begin = 8, heldout = 8, end = 12 }]\n");
  EXPECT_EQ(std::vector(source.train().begin(), source.train().end()), (std::vector<TokenRange>{{2, 6}}));
  EXPECT_EQ(std::vector(source.heldout().begin(), source.heldout().end()), (std::vector<TokenRange>{{6, 8}, {8, 12}}));
  const std::pair<std::string, std::string> bad[] = {
      {good + "part = [{ begin = 4, heldout = 2, end = 8 }]\n", "heldout"},
      {good + "part = [{ begin = 0, heldout = 2, end = 13 }]\n", "end"},
      {good + "part = [{ begin = 0, heldout = 2, end = 8 }, { begin = 7, heldout = 9, end = 12 }]\n", "ends at 8"},
      {good + "part = [{ begin = 0, heldout = 2, end = 8 }]\nhold = 3\n", "hold"},
      {"format = 'byte'\nvocabulary = 256\ntokens = 12\npart = []\n", "bytes"},
      {"format = 'bytes'\nvocabulary = 100\ntokens = 12\npart = []\n", "vocabulary"},
      {"format = 'bytes'\nvocabulary = 256\ntokens = 11\npart = []\n", "12 tokens"},
      {"format = 'npy'\nvocabulary = 256\ntokens = 12\npart = []\n", "not an npy file"},
  };
  for (const auto& [rest, expected] : bad) {
    const std::string message = message_from([&, &text = rest] { open(text); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  }
}

TEST(TokenSource, EveryKindOfFileGivesItsIds) {
  const TempFolder folder;
  std::vector<std::uint16_t> u16(1000);
  for (std::size_t i = 0; i < u16.size(); ++i) u16[i] = static_cast<std::uint16_t>(i * 65);
  const std::vector<std::uint32_t> u32(u16.begin(), u16.end());
  const std::vector<std::int32_t> expected(u16.begin(), u16.end());

  write_npy(folder / "a.npy", Array::from<std::uint16_t>({1000}, std::span<const std::uint16_t>(u16)));
  write_npy(folder / "b.npy", Array::from<std::uint32_t>({1000}, std::span<const std::uint32_t>(u32)));
  std::vector<std::int32_t> header(256, 0);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 1000;
  test::spill(folder / "c.bin", raw(header) + raw(u16));
  const std::string counts = raw(std::vector<std::uint64_t>{2, 3});
  test::spill(folder / "d.bin", raw(u16));
  const std::string index = std::string("MMIDIDX\0\0", 9) + raw(std::vector<std::uint64_t>{1}) + '\x08' + counts +
                            raw(std::vector<std::int32_t>{400, 600}) + raw(std::vector<std::int64_t>{0, 800}) +
                            raw(std::vector<std::int64_t>{0, 1, 2});
  test::spill(folder / "d.idx", index);
  for (const std::string name : {"a.npy", "b.npy", "c.bin", "d.bin"}) {
    const TokenSource source = TokenSource::open(folder / name);
    EXPECT_EQ(ids_of(source), expected) << name;
    EXPECT_EQ(source.vocabulary(), 999 * 65 + 1) << name;
    EXPECT_EQ(source.heldout()[0], (TokenRange{900, 1000})) << name;
    EXPECT_EQ(source.train()[0], (TokenRange{0, 900})) << name;
    std::vector<std::int32_t> inputs(3), targets(3);
    source.read_window(10, inputs, targets);
    EXPECT_EQ(inputs, (std::vector<std::int32_t>{650, 715, 780}));
    EXPECT_EQ(targets, (std::vector<std::int32_t>{715, 780, 845}));
    EXPECT_THROW(source.read_window(997, inputs, targets), std::out_of_range);
    EXPECT_THROW(source.read(-1, inputs), std::out_of_range);
  }
  for (const std::string name : {"a.npy", "c.bin"}) {
    EXPECT_GT(test::sweep_truncations(folder / name, [](const std::string& cut) { TokenSource::open(cut); }), 20);
  }
  for (std::size_t length = 0; length < index.size(); ++length) {
    test::spill(folder / "d.idx", index.substr(0, length));
    EXPECT_NE(message_from([&] { TokenSource::open(folder / "d.bin"); }).find("d."), std::string::npos);
  }
  test::spill(folder / "e.bin", "something else");
  EXPECT_NE(message_from([&] { TokenSource::open(folder / "e.bin"); }).find("llm.c"), std::string::npos);
  test::spill(folder / "f.txt", "x");
  EXPECT_THROW(TokenSource::open(folder / "f.txt"), UserError);
  EXPECT_THROW(TokenSource::open(folder / "missing.txt"), UserError);
  test::spill(folder / "g.npy", "");
  write_npy(folder / "g.npy", Array::from<std::uint32_t>(
                                  {2}, std::span<const std::uint32_t>(std::vector<std::uint32_t>{0xFFFFFFFFu, 1})));
  EXPECT_NE(message_from([&] { TokenSource::open(folder / "g.npy"); }).find("not an id"), std::string::npos);
}

// Shards follow each other: windows cross from one to the next, an empty one is no hole, and each is held to its
// digest.
TEST(TokenSource, ShardsAreOneSequence) {
  const TempFolder folder;
  std::vector<std::uint16_t> all(700);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i * 91);
  const std::int64_t cuts[] = {0, 250, 250, 256, 700};
  std::string shards;
  for (std::size_t i = 0; i + 1 < std::size(cuts); ++i) {
    const std::string name = "s" + std::to_string(i) + ".npy";
    const auto part = std::span<const std::uint16_t>(all).subspan(static_cast<std::size_t>(cuts[i]),
                                                                  static_cast<std::size_t>(cuts[i + 1] - cuts[i]));
    write_npy(folder / name, Array::from<std::uint16_t>({cuts[i + 1] - cuts[i]}, part));
    shards += "[[shard]]\nfile = '" + name + "'\nsha256 = '" + sha256_hex(test::slurp(folder / name)) + "'\n";
  }
  const std::string head =
      "name = 's'\nformat = 'npy'\nvocabulary = 65536\ntext_bytes = 2000\npart = [{ begin = 0, heldout = 600, end = "
      "700 }]\n";
  test::spill(folder / "s.toml", head + "tokens = 700\n" + shards);
  const TokenSource source = TokenSource::open(folder / "s.toml");
  EXPECT_EQ(ids_of(source), std::vector<std::int32_t>(all.begin(), all.end()));
  for (const std::int64_t start : {240, 249, 250, 251, 255, 256, 690}) {
    std::vector<std::int32_t> inputs(9), targets(9);
    source.read_window(start, inputs, targets);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(inputs[i], all[static_cast<std::size_t>(start) + i]);
      EXPECT_EQ(targets[i], all[static_cast<std::size_t>(start) + i + 1]);
    }
  }
  test::spill(folder / "t.toml", head + "tokens = 701\n" + shards);
  EXPECT_NE(message_from([&] { TokenSource::open(folder / "t.toml"); }).find("the shards hold 700"), std::string::npos);
  write_npy(folder / "s1.npy", Array::from<std::uint32_t>({0}, {}));
  EXPECT_NE(message_from([&] { TokenSource::open(folder / "s.toml"); }).find("s1.npy"), std::string::npos);
}

TEST(TokenSource, SplitDigestSeesTextAndSplit) {
  const TempFolder folder;
  std::set<std::string> digests;
  for (const std::string text : {"hello, world", "hello, World", "hello, worlds and more"}) {
    test::spill(folder / "t.txt", text);
    const TokenSource source = TokenSource::open(folder / "t.txt");
    EXPECT_EQ(source.split_digest(), TokenSource::open(folder / "t.txt").split_digest());
    digests.insert(source.split_digest());
  }
  EXPECT_EQ(digests.size(), 3u);
}

TEST(BatchOrder, EachEpochVisitsEachWindowOnce) {
  for (const std::int64_t length : {1, 3, 16, 100}) {
    const TokenRange ranges[] = {{0, 101}, {150, 151}, {200, 1207}, {1207, 1400}};
    const BatchOrder order(5, ranges, length);
    std::set<std::int64_t> all;
    for (std::int64_t w = 0; w < order.windows(); ++w) {
      const std::int64_t start = order.window_start(w);
      EXPECT_TRUE(all.insert(start).second);
      const bool inside = std::any_of(std::begin(ranges), std::end(ranges), [&](const TokenRange& range) {
        return start >= range.begin && start + length + 1 <= range.end;  // the last target too
      });
      EXPECT_TRUE(inside) << start;
    }
    std::set<std::vector<std::int64_t>> orders;
    for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
      std::vector<std::int64_t> visited;
      for (std::int64_t i = 0; i < order.windows(); ++i)
        visited.push_back(order.sequence_start(epoch * order.windows() + i));
      EXPECT_EQ(std::set<std::int64_t>(visited.begin(), visited.end()), all);
      EXPECT_EQ(visited.size(), all.size());
      orders.insert(visited);
    }
    EXPECT_EQ(orders.size(), 5u);
  }
}

TEST(BatchOrder, IsAFunctionOfSeedAndSequenceAlone) {
  const TokenRange ranges[] = {{0, 100000}};
  const BatchOrder one(1, ranges, 64), same(1, ranges, 64), other(2, ranges, 64);
  int different = 0;
  for (std::int64_t step = 0; step < 40; ++step) {
    for (std::int64_t i = 0; i < 16; ++i) {
      const std::int64_t start = one.sequence_start(step, i, 16);
      EXPECT_EQ(start, same.sequence_start(step, i, 16));
      EXPECT_EQ(start, one.sequence_start(step * 4 + i / 4, i % 4, 4));  // micro-batches
      different += start != other.sequence_start(step, i, 16);
    }
  }
  EXPECT_GT(different, 600);
  // Asked backwards, nothing changes; and these values never change, or old runs could not be continued.
  EXPECT_EQ(one.sequence_start(0), 6656);
  EXPECT_EQ(one.sequence_start(1), 4928);
  EXPECT_EQ(one.sequence_start(1562), 19584);
}

// A window's place in the epoch says nothing about its place in the text: the mean rank distance of neighbours is that
// of a random permutation, n/3 with a standard deviation of about n/sqrt(18 n) * 1.3; 5 of them allowed.
TEST(BatchOrder, IsWellMixed) {
  const TokenRange ranges[] = {{0, 4097}};
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    const BatchOrder order(seed, ranges, 1);
    const double n = static_cast<double>(order.windows());
    double sum = 0;
    for (std::int64_t i = 0; i + 1 < order.windows(); ++i) {
      sum += std::abs(static_cast<double>(order.sequence_start(i + 1) - order.sequence_start(i)));
    }
    EXPECT_NEAR(sum / (n - 1), n / 3, 5 * 1.3 * n / std::sqrt(18 * n));
  }
}

TEST(BatchOrder, TooShortDataIsAMessage) {
  const TokenRange ranges[] = {{0, 64}};
  EXPECT_NE(message_from([&] { BatchOrder(0, ranges, 64); }).find("64"), std::string::npos);
  EXPECT_THROW(BatchOrder(0, ranges, 0), UserError);
  EXPECT_THROW(BatchOrder(0, {}, 4), UserError);
  EXPECT_EQ(BatchOrder(0, ranges, 63).windows(), 1);
  EXPECT_EQ(BatchOrder(0, ranges, 63).sequence_start(12345), 0);
}

TEST(EvaluationWindows, AreInOrderAndSpread) {
  const TokenRange ranges[] = {{10, 31}, {40, 61}};
  EXPECT_EQ(evaluation_windows(ranges, 5), (std::vector<std::int64_t>{10, 15, 20, 25, 40, 45, 50, 55}));
  EXPECT_EQ(evaluation_windows(ranges, 5, 4), (std::vector<std::int64_t>{10, 20, 40, 50}));
  EXPECT_EQ(evaluation_windows(ranges, 5, 100).size(), 8u);
}

}  // namespace
}  // namespace ng
