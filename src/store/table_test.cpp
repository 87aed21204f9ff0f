// Structs as rows, the change log that their writes leave, and idempotency keys, on both engines.
#include "store/table.h"

#include <gmock/gmock.h>

#include <set>

#include "store/idempotency.h"
#include "store/migrations.h"
#include "store/testing/test_database.h"

namespace neutrino::store {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

enum class Phase { idle, running };
constexpr std::array<std::string_view, 2> enum_names(Phase) { return {"idle", "running"}; }

struct Machine {
  std::string workspace;
  std::string id;
  int64_t cores = 0;
  double load = 0;
  bool on = false;
  Phase phase = Phase::idle;
  std::optional<std::string> owner;
  std::vector<std::string> tags;
  json::value labels;
  std::string password;
  int64_t age_s = 0;
  int64_t etag = 0;
  static constexpr auto fields() {
    return std::tuple(
        field("workspace", &Machine::workspace, {.key = true}), field("id", &Machine::id, {.key = true}),
        field("cores", &Machine::cores), field("load", &Machine::load), field("is_on", &Machine::on),
        field("phase", &Machine::phase), field("owner", &Machine::owner), field("tags", &Machine::tags),
        field("labels", &Machine::labels), field("password", &Machine::password, {.secret = true}),
        field("age_s", &Machine::age_s, {.not_stored = true}), field("etag", &Machine::etag));
  }
};

struct Sample {
  int64_t id = 0;
  int64_t value = 0;
  static constexpr auto fields() {
    return std::tuple(field("id", &Sample::id, {.key = true}), field("value", &Sample::value));
  }
};

constexpr Migration kMigrations[] = {
    {1, "machines", R"(
      CREATE TABLE machines (
        workspace TEXT NOT NULL, id TEXT NOT NULL, cores BIGINT NOT NULL, load DOUBLE PRECISION NOT NULL,
        is_on BIGINT NOT NULL, phase TEXT NOT NULL, owner TEXT, tags TEXT NOT NULL, labels TEXT NOT NULL,
        password TEXT NOT NULL, etag BIGINT NOT NULL, PRIMARY KEY (workspace, id));
      CREATE TABLE samples (id BIGINT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);)"},
};

const Table<Machine> kMachines({.name = "machines", .kind = "machine"});
const Table<Sample> kSamples({.name = "samples"});

class TableTest : public testing::OnBothEngines {
 protected:
  void SetUp() override {
    database_.emplace(DatabaseOptions{.url = new_url()});
    migrate(*database_, "test", kMigrations);
  }
  Machine insert(Machine machine) {
    db().write([&](Transaction& tx) { kMachines.insert(tx, machine); });
    return machine;
  }
  std::vector<std::string> ids(const ListQuery& query) {
    std::vector<std::string> found;
    for (const Machine& machine : db().read([&](Transaction& tx) { return kMachines.list(tx, query); }).rows)
      found.push_back(machine.id);
    return found;
  }
  Database& db() { return *database_; }

 private:
  std::optional<Database> database_;
};
NEUTRINO_ON_BOTH_ENGINES(TableTest);

// The Error that `work` ends with.
TEST_P(TableTest, a_row_comes_back_as_it_was) {
  const Machine machine = insert({.workspace = "w",
                                  .id = "m1",
                                  .cores = 64,
                                  .load = 0.3,
                                  .on = true,
                                  .phase = Phase::running,
                                  .tags = {"a", "b\"c"},
                                  .labels = parse_json(R"({"zone":[1,2.5,null]})"),
                                  .password = "hunter2",
                                  .age_s = 99});
  const Machine found = db().read([](Transaction& tx) { return kMachines.get(tx, "w", "m1"); });
  EXPECT_EQ(found.age_s, 0);
  Machine expected = machine;
  expected.age_s = 0;
  EXPECT_EQ(to_text(to_json(found, Show::all_fields)), to_text(to_json(expected, Show::all_fields)));
  EXPECT_FALSE(db().read([](Transaction& tx) { return kMachines.find(tx, "w", "m2"); }).has_value());
}

TEST_P(TableTest, what_is_not_there_or_there_twice_is_named) {
  insert({.workspace = "w", .id = "m1"});
  EXPECT_EQ(error_of([&] { insert({.workspace = "w", .id = "m1"}); }).message(),
            "machine 'm1' exists already");
  EXPECT_EQ(error_of([&] { insert({.workspace = "w", .id = "m1"}); }).code(), ErrorCode::already_exists);
  const Error missing = error_of([&] { db().read([](Transaction& tx) { kMachines.get(tx, "v", "m1"); }); });
  EXPECT_EQ(missing.code(), ErrorCode::not_found);
  EXPECT_EQ(missing.message(), "there is no machine 'v/m1'");
  insert({.workspace = "v", .id = "m1"});
}

TEST_P(TableTest, an_update_of_what_was_changed_meanwhile_is_refused) {
  Machine mine = insert({.workspace = "w", .id = "m1", .cores = 1});
  Machine theirs = mine;
  theirs.cores = 2;
  db().write([&](Transaction& tx) { kMachines.update(tx, theirs); });
  EXPECT_GT(theirs.etag, mine.etag);
  mine.cores = 3;
  const Error error = error_of([&] { db().write([&](Transaction& tx) { kMachines.update(tx, mine); }); });
  EXPECT_EQ(error.code(), ErrorCode::failed_precondition);
  EXPECT_EQ(error.reason(), "etag_mismatch");
  EXPECT_EQ(error_of([&] { db().write([&](Transaction& tx) { kMachines.erase(tx, mine); }); }).reason(),
            "etag_mismatch");
  db().write([&](Transaction& tx) { kMachines.erase(tx, theirs); });
  EXPECT_EQ(error_of([&] { db().write([&](Transaction& tx) { kMachines.update(tx, theirs); }); }).code(),
            ErrorCode::not_found);
}

TEST_P(TableTest, a_conflict_may_be_handled_inside_a_transaction) {
  Machine machine = insert({.workspace = "w", .id = "m1"});
  db().write([&](Transaction& tx) {
    Machine stale = machine;
    stale.etag = 999;
    EXPECT_THROW(kMachines.update(tx, stale), Error);
    Machine fresh = kMachines.get(tx, "w", "m1");
    fresh.cores = 5;
    kMachines.update(tx, fresh);
  });
  EXPECT_EQ(db().read([](Transaction& tx) { return kMachines.get(tx, "w", "m1"); }).cores, 5);
  EXPECT_EQ(db().read([](Transaction& tx) { return last_change(tx); }), 2);  // the refused one left no change
}

TEST_P(TableTest, rows_without_etag_and_kind_are_rows_too) {
  Sample sample{.id = 1, .value = 2};
  db().write([&](Transaction& tx) {
    kSamples.insert(tx, sample);
    sample.value = 3;
    kSamples.update(tx, sample);
  });
  EXPECT_EQ(db().read([](Transaction& tx) { return kSamples.get(tx, 1); }).value, 3);
  EXPECT_EQ(db().read([](Transaction& tx) { return last_change(tx); }), 0);
}

TEST_P(TableTest, lists_filter_and_order) {
  insert({.workspace = "w", .id = "b", .cores = 4, .load = 0.5, .phase = Phase::running, .owner = "ann"});
  insert({.workspace = "w", .id = "B", .cores = 8, .load = 0.25});
  insert({.workspace = "w", .id = "a_1", .cores = 4, .load = 2});
  insert({.workspace = "v", .id = "ax", .cores = 1, .on = true});
  const Filter in_w{.field = "workspace", .value = "w"};
  EXPECT_THAT(ids({.filters = {in_w}}),
              ElementsAre("B", "a_1", "b"));  // by bytes, whatever the server's language
  EXPECT_THAT(ids({.filters = {in_w}, .order_by = "load"}), ElementsAre("B", "b", "a_1"));
  EXPECT_THAT(ids({.filters = {in_w}, .order_by = "cores", .direction = Direction::descending}),
              ElementsAre("B", "b", "a_1"));
  EXPECT_THAT(ids({.filters = {{.field = "cores", .compare = Compare::greater, .value = int64_t{1}},
                               {.field = "cores", .compare = Compare::less_or_equal, .value = int64_t{4}}}}),
              ElementsAre("a_1", "b"));
  EXPECT_THAT(ids({.filters = {{.field = "id", .compare = Compare::prefix, .value = "a"}}}),
              ElementsAre("ax", "a_1"));
  EXPECT_THAT(ids({.filters = {{.field = "id", .compare = Compare::prefix, .value = "a_"}}}),
              ElementsAre("a_1"));
  EXPECT_THAT(ids({.filters = {{.field = "owner", .compare = Compare::is_not_null}}}), ElementsAre("b"));
  EXPECT_THAT(ids({.filters = {{.field = "phase", .value = "running"}}}), ElementsAre("b"));
  EXPECT_THAT(ids({.filters = {{.field = "is_on", .value = kMachines.value_from_text("is_on", "true")}}}),
              ElementsAre("ax"));
  EXPECT_THAT(ids({.filters = {{.field = "load",
                                .compare = Compare::less,
                                .value = kMachines.value_from_text("load", "0.3")},
                               in_w}}),
              ElementsAre("B"));
  EXPECT_THAT(
      ids({.filters = {{.field = "cores", .compare = Compare::any_of, .values = {int64_t{1}, int64_t{8}}}}}),
      ElementsAre("ax", "B"));
  EXPECT_THAT(ids({.filters = {{.field = "cores", .compare = Compare::any_of}}}), ElementsAre());
  EXPECT_EQ(db().read([&](Transaction& tx) { return kMachines.count(tx, {in_w}); }), 3);
}

TEST_P(TableTest, pages_neither_repeat_nor_hide_rows_while_others_come_and_go) {
  for (int i = 0; i < 25; ++i)
    insert({.workspace = "w", .id = fmt::format("m{:02}", i), .cores = i / 10, .load = i * 0.1});
  for (const std::string order_by : {"", "cores", "load", "id"}) {
    for (const Direction direction : {Direction::ascending, Direction::descending}) {
      ListQuery query{.order_by = order_by, .direction = direction, .limit = 7};
      std::set<std::string> seen;
      std::vector<Machine> gone;
      int64_t pages = 0;
      do {
        const Page<Machine> page = db().read([&](Transaction& tx) { return kMachines.list(tx, query); });
        for (const Machine& machine : page.rows) EXPECT_TRUE(seen.insert(machine.id).second) << machine.id;
        query.after = page.next;
        ++pages;
        // The cursor's own row goes, and so does one before it, so that offsets would be off.
        for (const Machine& machine : {page.rows.front(), page.rows.back()}) {
          if (page.rows.size() < 2) continue;
          db().write([&](Transaction& tx) { kMachines.erase(tx, machine); });
          gone.push_back(machine);
        }
      } while (!query.after.empty());
      EXPECT_EQ(pages, 4) << order_by;
      EXPECT_EQ(seen.size(), 25) << order_by;
      for (const Machine& machine : gone) insert(machine);
    }
  }
}

TEST_P(TableTest, a_bad_list_is_refused_by_its_part) {
  insert({.workspace = "w", .id = "a"});
  insert({.workspace = "w", .id = "b"});
  const std::string after = db().read([](Transaction& tx) { return kMachines.list(tx, {.limit = 1}).next; });
  const std::vector<std::pair<ListQuery, std::string>> cases = {
      {{.filters = {{.field = "colour", .value = "red"}}}, "filters[0]"},
      {{.filters = {{.field = "id; DROP TABLE machines", .value = "red"}}}, "filters[0]"},
      {{.filters = {{.field = "tags", .value = "a"}}}, "filters[0]"},
      {{.filters = {{.field = "cores", .value = "four"}}}, "filters[0]"},
      {{.filters = {{.field = "cores", .compare = Compare::prefix, .value = int64_t{4}}}}, "filters[0]"},
      {{.order_by = "colour"}, "order_by"},
      {{.order_by = "owner"}, "order_by"},
      {{.limit = 0}, "limit"},
      {{.limit = limits::kStorePageRows + 1}, "limit"},
      {{.after = "nonsense"}, "after"},
      {{.after = "5b5d"}, "after"},
      {{.after = after.substr(2)}, "after"},
      {{.order_by = "cores", .after = after}, "after"},
      {{.direction = Direction::descending, .after = after}, "after"},
      {{.after = "5b22222c66616c73652c312c325d"}, "after"},  // ["",false,1,2]
  };
  for (const auto& [query, param] : cases) {
    const Error error = error_of([&] { db().read([&](Transaction& tx) { kMachines.list(tx, query); }); });
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.message();
    EXPECT_EQ(error.param(), param) << error.message();
  }
  EXPECT_EQ(error_of([] { kMachines.value_from_text("cores", "4x"); }).param(), "cores");
}

TEST_P(TableTest, columns_that_are_missing_are_noticed) {
  struct Renamed {
    int64_t id = 0, worth = 0;
    static constexpr auto fields() {
      return std::tuple(field("id", &Renamed::id, {.key = true}), field("worth", &Renamed::worth));
    }
  };
  db().read([](Transaction& tx) { kMachines.check_columns(tx); });
  EXPECT_THAT(error_of([&] {
                db().read([](Transaction& tx) { Table<Renamed>({.name = "samples"}).check_columns(tx); });
              }).message(),
              HasSubstr("worth"));
}

// ---- change log

ChangePage changes_since(Database& database, int64_t since, const std::string& workspace = {},
                         int64_t limit = 100) {
  return database.read([&](Transaction& tx) {
    return read_changes(tx, {.since = since, .workspace = workspace, .limit = limit});
  });
}

TEST_P(TableTest, every_write_leaves_a_change_without_gaps) {
  Machine one = insert({.workspace = "w", .id = "one"}), two = insert({.workspace = "v", .id = "two"});
  EXPECT_THROW(insert({.workspace = "w", .id = "one"}), Error);  // leaves none, and no gap
  db().write([&](Transaction& tx) {
    kMachines.update(tx, one);
    kMachines.erase(tx, two);
  });
  std::vector<std::string> lines;
  for (const Change& c : changes_since(db(), 0).changes)
    lines.push_back(fmt::format("{} {} {} {} {} {}", c.seq, c.workspace, c.kind, c.id, c.operation, c.etag));
  EXPECT_THAT(lines, ElementsAre("1 w machine one insert 1", "2 v machine two insert 2",
                                 "3 w machine one update 3", "4 v machine two erase 4"));
  EXPECT_EQ(one.etag, 3);
}

TEST_P(TableTest, a_watcher_of_a_workspace_moves_on_through_the_changes_of_others) {
  for (int i = 0; i < 5; ++i) insert({.workspace = i == 3 ? "w" : "v", .id = fmt::format("m{}", i)});
  const ChangePage page = changes_since(db(), 0, "w");
  ASSERT_EQ(page.changes.size(), 1);
  EXPECT_EQ(page.changes[0].seq, 4);
  EXPECT_EQ(page.seen, 5);
  const ChangePage cut = changes_since(db(), 0, "v", 2);
  EXPECT_EQ(cut.changes.size(), 2);
  EXPECT_EQ(cut.seen, 2);
  EXPECT_EQ(changes_since(db(), 2, "v", 2).seen, 5);
}

TEST_P(TableTest, a_watcher_that_is_too_far_behind_is_told) {
  for (int i = 0; i < 5; ++i) insert({.workspace = "w", .id = fmt::format("m{}", i)});
  EXPECT_EQ(error_of([&] { changes_since(db(), 6); }).reason(), "too_old");  // of another database
  db().write([](Transaction& tx) { tx.execute("DELETE FROM store_changes WHERE seq <= 3"); });
  EXPECT_EQ(changes_since(db(), 3).changes.size(), 2);
  const Error error = error_of([&] { changes_since(db(), 2); });
  EXPECT_EQ(error.code(), ErrorCode::out_of_range);
  EXPECT_EQ(error.reason(), "too_old");
  db().write([](Transaction& tx) { restart_change_log(tx); });
  EXPECT_EQ(error_of([&] { changes_since(db(), 5); }).reason(), "too_old");
  EXPECT_GT(insert({.workspace = "w", .id = "new"}).etag, 1'000'000);
}

TEST_P(TableTest, the_log_keeps_a_bounded_number_of_changes) {
  const int64_t last = limits::kStoreChanges + 5000;
  db().write([&](Transaction& tx) {  // an old log, but for its end
    for (int64_t seq : {int64_t{1}, int64_t{2}, last})
      tx.execute("INSERT INTO store_changes VALUES (?, '', 'k', 'i', 'insert', ?, 0)", seq, seq);
  });
  for (int i = 0; i < 1100; i += 100)
    db().write([&](Transaction& tx) {
      for (int j = 0; j < 100; ++j) append_change(tx, {.kind = "k"});
    });
  EXPECT_EQ(changes_since(db(), last - 1, "", 1).changes.at(0).seq, last);
  EXPECT_EQ(error_of([&] { changes_since(db(), 2); }).reason(), "too_old");
}

TEST_P(TableTest, waiting_ends_with_a_change_or_with_the_time) {
  ChangeLog log(db());
  EXPECT_TRUE(log.wait({}, std::chrono::milliseconds(20)).changes.empty());
  std::thread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    insert({.workspace = "other", .id = "m0"});
    insert({.workspace = "w", .id = "m1"});
  });
  const ChangePage page = log.wait({.workspace = "w"}, std::chrono::seconds(60));
  writer.join();
  ASSERT_EQ(page.changes.size(), 1);
  EXPECT_EQ(page.changes[0].id, "m1");
}

TEST_P(TableTest, changes_of_another_process_are_seen_and_listeners_hear_of_them) {
  const std::string url = db().options().url;
  Database other({.url = url});
  ChangeLog log(db());
  std::promise<int64_t> heard;
  std::atomic<bool> once = false;
  auto subscription = log.on_change([&](int64_t last) {
    if (last > 0 && !once.exchange(true)) heard.set_value(last);
  });
  std::future<ChangePage> waiting =
      std::async(std::launch::async, [&] { return log.wait({}, std::chrono::seconds(60)); });
  Machine machine{.workspace = "w", .id = "m1"};
  other.write([&](Transaction& tx) { kMachines.insert(tx, machine); });
  EXPECT_EQ(waiting.get().changes.at(0).id, "m1");
  EXPECT_EQ(heard.get_future().get(), 1);
  subscription.reset();
}

// Whoever has seen n has seen all before it: with writers in two "processes" a watcher never meets a number out of order.
TEST_P(TableTest, nothing_is_committed_later_with_a_smaller_number) {
  Database other({.url = db().options().url});
  ChangeLog log(db());
  std::vector<std::thread> writers;
  for (int64_t t = 0; t < 4; ++t)
    writers.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        Machine machine{.workspace = "w", .id = fmt::format("{}-{}", t, i)};
        (t % 2 == 0 ? db() : other).write([&](Transaction& tx) { kMachines.insert(tx, machine); });
      }
    });
  int64_t since = 0;
  std::set<std::string> seen;
  while (since < 200) {
    const ChangePage page = log.wait({.since = since}, std::chrono::seconds(30));
    ASSERT_FALSE(page.changes.empty());
    for (const Change& change : page.changes) {
      EXPECT_EQ(change.seq, ++since);
      seen.insert(change.id);
    }
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(seen.size(), 200);
}

// ---- idempotency keys

TEST_P(TableTest, the_same_request_gets_the_same_answer_and_happens_once) {
  const auto post = [&](const std::string& key, const std::string& hash, int64_t now_ms) {
    return db().write([&](Transaction& tx) -> std::string {
      const IdempotencyKey idempotency{.workspace = "w", .key = key, .request_sha256 = hash};
      if (auto answer = find_answer(tx, idempotency, now_ms)) return *answer;
      Sample sample{.id = kSamples.count(tx) + 1};
      kSamples.insert(tx, sample);
      std::string answer = fmt::format("made {}", sample.id);
      store_answer(tx, idempotency, answer, now_ms);
      return answer;
    });
  };
  const int64_t day = limits::kIdempotencyHours * 3'600'000, now = 10 * day;
  EXPECT_EQ(post("k1", "hash1", now), "made 1");
  EXPECT_EQ(post("k1", "hash1", now + day - 1), "made 1");
  EXPECT_EQ(post("k2", "hash1", now), "made 2");
  EXPECT_EQ(error_of([&] { post("k1", "hash2", now); }).reason(), "idempotency_key_reused");
  EXPECT_EQ(post("k1", "hash2", now + day), "made 3");  // the first has expired
  EXPECT_EQ(db().write([&](Transaction& tx) { return expire_answers(tx, now + day); }), 1);
  EXPECT_EQ(error_of([&] { post("", "h", now); }).param(), "Idempotency-Key");
  EXPECT_EQ(error_of([&] { post(std::string(256, 'k'), "h", now); }).param(), "Idempotency-Key");
}

}  // namespace
}  // namespace neutrino::store
