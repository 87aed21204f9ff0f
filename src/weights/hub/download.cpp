#include "weights/hub/download.h"

#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <exception>
#include <limits>
#include <thread>

#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

constexpr const char* kChanged = "changed";  // what is there is of another file, or cannot be gone on with
constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

Error wrong(std::string message) { return Error(ErrorCode::data_loss, std::move(message)); }
Error changed(std::string message) { return wrong(std::move(message)).with_reason(kChanged); }

// "bytes 0-99/1000"; total -1 where it is "*".
struct ContentRange {
  int64_t begin = 0, end = 0, total = -1;
};
std::optional<ContentRange> parse_content_range(std::string_view text) {
  ContentRange range;
  const auto take = [&](int64_t& number, std::string_view before) {
    if (!text.starts_with(before)) return false;
    text.remove_prefix(before.size());
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failure != std::errc{} || number < 0 || number == kEndless) return false;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return true;
  };
  int64_t last = 0;
  if (!take(range.begin, "bytes ") || !take(last, "-")) return std::nullopt;
  range.end = last + 1;
  if (text != "/*" && (!take(range.total, "/") || !text.empty())) return std::nullopt;
  const bool sound = range.begin < range.end && (range.total < 0 || range.end <= range.total);
  return sound ? std::optional(range) : std::nullopt;
}

std::string strong_etag(const net::FetchResponse& response) {
  const std::string etag = response.headers.find("etag").value_or("");
  const bool plain = std::all_of(etag.begin(), etag.end(), [](char c) { return c > ' ' && c <= '~'; });
  return plain && etag.size() < 256 && etag.starts_with('"') ? etag : "";
}

std::string unquoted(std::string text) {
  if (text.starts_with("W/")) text.erase(0, 2);
  std::erase(text, '"');
  return text;
}

class Download {
 public:
  Download(const RemoteModel& model, const RemoteFile& file, const DownloadOptions& options,
           PartialFile& part, PullObserver& observer)
      : model_(model), file_(file), options_(options), part_(part), observer_(observer) {}

  void run() {
    constexpr int kStarts = 4;
    for (int start = 1;; ++start) try {
        return run_once();
      } catch (const Error& error) {
        if (error.reason() != kChanged) throw;
        if (start == kStarts)
          throw wrong(fmt::format("{}: {}; {} starts did not help", file_.name, error.message(), kStarts));
        observer_.note(fmt::format("{}: {}: from the beginning", file_.name, error.message()));
        part_.forget();
      }
  }

 private:
  bool has_hash() const { return !file_.sha256.empty() || !file_.git_sha1.empty(); }

  // The first piece shows whether the server gives ranges, and of an unknown file how long it is.
  void run_once() {
    if (part_.bytes() >= 0 && file_.bytes >= 0 && part_.bytes() != file_.bytes) part_.forget();
    if (part_.bytes() < 0 && file_.bytes >= 0) part_.begin(file_.bytes, "");
    done_ = part_.done();
    observer_.begin(file_.name, done_, part_.bytes());
    if (part_.is_whole()) return;
    const int64_t most = part_bytes();
    if (part_.bytes() < 0)
      fetch_range(fetcher_, {0, most});
    else
      fetch_range(fetcher_, part_.missing(most).front());
    if (part_.bytes() >= 0) fetch_side_by_side(part_.missing(part_bytes()));
    if (!part_.is_whole()) throw wrong(fmt::format("{} did not come whole", file_.name));
  }

  int64_t part_bytes() const {
    if (options_.part_bytes > 0) return options_.part_bytes;
    return std::clamp<int64_t>(part_.bytes() / 64, 8 << 20, 64 << 20);
  }

  void fetch_side_by_side(const std::vector<ByteRange>& ranges) {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      net::Fetcher fetcher;
      for (size_t i; !stopped_ && (i = next++) < ranges.size();) try {
          fetch_range(fetcher, ranges[i]);
        } catch (...) {
          const std::lock_guard held(mutex_);
          if (!stopped_.exchange(true)) failure_ = std::current_exception();
        }
    };
    {
      std::vector<std::jthread> threads;
      const auto count = std::min<size_t>(static_cast<size_t>(options_.connections), ranges.size());
      for (size_t i = 0; i < count; ++i) threads.emplace_back(work);
    }
    stopped_ = false;
    if (failure_) std::rethrow_exception(std::exchange(failure_, {}));
  }

  // One request after the other until the range is there: each goes on where the last one broke off.
  void fetch_range(net::Fetcher& fetcher, ByteRange range) {
    Patience patience(options_.retries);
    while (range.begin < range.end) {
      const int64_t before = range.begin;
      std::optional<int64_t> wait;
      std::string why;
      try {
        const auto response = request(fetcher, range);
        if (response.status == 200 || response.status == 206) {
          if (range.begin == before)
            throw wrong(fmt::format("{} sends none of the bytes asked for", host(response)));
          continue;  // done, or less than asked for
        }
        wait = retry_after_s(response);
        why = status_text(response);
        if (!is_passing_status(response.status)) throw refusal(response);
      } catch (const Error& error) {
        if (!net::is_passing(error)) throw;
        why = error.message();
      }
      if (range.begin > before) patience.reset();
      {
        const std::lock_guard held(mutex_);
        observer_.note(fmt::format("{}: {}: going on at byte {}", file_.name, why, range.begin));
      }
      if (!patience.wait(wait))
        throw make_error(ErrorCode::unavailable,
                         "{}: {}; what has come is kept: the same command goes on from there", file_.name,
                         why);
    }
  }

  Error refusal(const net::FetchResponse& response) const {
    if (response.status == 416)
      return changed(fmt::format("{} no longer has the bytes asked for", host(response)));
    return model_.explain(response, file_.name);
  }

  static std::string host(const net::FetchResponse& response) { return response.url.host(); }

  // Moves range.begin behind what has come. A range whose end nobody knows yet gets one.
  net::FetchResponse request(net::Fetcher& fetcher, ByteRange& range) {
    net::FetchRequest request{.url = file_.url, .authorization = model_.authorization};
    request.headers = {{"Range", fmt::format("bytes={}-{}", range.begin, range.end - 1)},
                       {"Accept-Encoding", "identity"}};
    if (!has_hash() && !part_.etag().empty() && part_.done() > 0)
      request.headers.emplace_back("If-Range", part_.etag());
    bool checked = false, endless = false;
    int64_t noted = range.begin;
    const auto note = [&] {
      part_.note({noted, range.begin});
      noted = range.begin;
    };
    const auto take = [&](const net::FetchResponse& head, std::string_view bytes) {
      if (stopped_) throw make_error(ErrorCode::cancelled, "another part failed");
      if (!std::exchange(checked, true)) endless = check_head(head, range);
      const auto size = static_cast<int64_t>(bytes.size());
      if (size > range.end - range.begin)
        throw wrong(fmt::format("{}: {} sends more bytes than it said", file_.name, host(head)));
      part_.write(range.begin, bytes);
      range.begin += size;
      if (range.begin - noted >= kNoteBytes) note();
      report(size);
    };
    try {
      auto response = fetcher.get(request, take);
      if (response.status == 200 && !checked) endless = check_head(response, range);  // of no bytes at all
      note();
      if (endless) {
        part_.set_whole(range.begin);
        range.end = range.begin;
      }
      return response;
    } catch (...) {
      note();
      throw;
    }
  }

  void report(int64_t bytes) {
    const std::lock_guard held(mutex_);
    done_ += bytes;
    observer_.progress(done_);
  }

  // Is this the file, and the place in it, that was asked for? True: its length is not known before its end.
  bool check_head(const net::FetchResponse& head, ByteRange& range) {
    if (const auto coding = head.headers.find("content-encoding"); coding && *coding != "identity")
      throw wrong(fmt::format("{}: {} sends it {}-encoded, which was not asked for", file_.name, host(head),
                              printable(*coding, 20)));
    check_identity(head);
    if (head.status == 206) return check_part(head, range);
    if (head.status != 200) throw model_.explain(head, file_.name);
    return check_all(head, range);
  }

  // The hub's own word, before a gigabyte of something else is fetched.
  void check_identity(const net::FetchResponse& head) const {
    const auto commit = head.first_headers.find("x-repo-commit");
    if (!model_.commit.empty() && commit && *commit != model_.commit)
      throw wrong(fmt::format("{}: the hub answers for the commit {}, {} was asked for", file_.name,
                              in_quotes(*commit), model_.commit));
    const auto linked = head.first_headers.find("x-linked-etag");
    if (!file_.sha256.empty() && linked && unquoted(*linked) != file_.sha256)
      throw wrong(fmt::format("{}: the hub's listing and its answer disagree about the SHA-256", file_.name));
  }

  bool check_part(const net::FetchResponse& head, ByteRange& range) {
    const auto sent = parse_content_range(head.headers.find("content-range").value_or(""));
    if (!sent || sent->begin != range.begin || sent->end > range.end)
      throw wrong(fmt::format("{}: {} sends other bytes than those asked for ({})", file_.name, host(head),
                              in_quotes(head.headers.find("content-range").value_or("no Content-Range"))));
    if (part_.bytes() < 0) {
      if (sent->total < 0)
        throw wrong(fmt::format("{}: {} does not say how long it is", file_.name, host(head)));
      begin_unknown(sent->total, head);
      range.end = std::min(range.end, sent->total);
    }
    check_length(sent->total < 0 ? part_.bytes() : sent->total, head);
    const std::string etag = strong_etag(head);
    if (!has_hash() && !etag.empty() && !part_.etag().empty() && etag != part_.etag())
      throw changed("it has changed at its source");
    return false;
  }

  bool check_all(const net::FetchResponse& head, ByteRange& range) {
    if (range.begin != 0 || (part_.bytes() >= 0 && part_.done() > 0))
      throw changed(fmt::format("it has changed, or {} cannot send parts", host(head)));
    int64_t length = -1;
    if (const auto text = head.headers.find("content-length"))
      std::from_chars(text->data(), text->data() + text->size(), length);
    if (part_.bytes() < 0) begin_unknown(length, head);
    if (length >= 0) check_length(length, head);
    range.end = part_.bytes() >= 0 ? part_.bytes() : kEndless;
    return part_.bytes() < 0;
  }

  void check_length(int64_t length, const net::FetchResponse& head) const {
    if (length == part_.bytes()) return;
    if (!has_hash() && part_.done() > 0) throw changed("it has another length now");
    throw wrong(fmt::format("{}: {} sends a file of {} bytes, one of {} was expected", file_.name, host(head),
                            length, part_.bytes()));
  }

  void begin_unknown(int64_t bytes, const net::FetchResponse& head) {
    if (bytes > 0) require_space(part_.path().parent_path(), bytes, file_.name);
    part_.begin(bytes, strong_etag(head));
    observer_.begin(file_.name, 0, bytes);
  }

  static constexpr int64_t kNoteBytes = 256 << 10;

  const RemoteModel& model_;
  const RemoteFile& file_;
  const DownloadOptions& options_;
  PartialFile& part_;
  PullObserver& observer_;
  net::Fetcher fetcher_;
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // of what follows, and of the observer
  std::exception_ptr failure_;
  int64_t done_ = 0;
};

// ---- hashes

struct FreeDigest {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

struct Hashes {
  BlobDigest sha256;
  std::string git_sha1;
};

Hashes hash_whole(const fs::path& path) {
  const FileDescriptor fd = open_file(path, O_RDONLY | O_NOFOLLOW);
  require_regular(fd, path);
  Sha256 sha;
  const std::unique_ptr<EVP_MD_CTX, FreeDigest> git(EVP_MD_CTX_new());
  check(git && EVP_DigestInit_ex(git.get(), EVP_sha1(), nullptr) == 1);
  const std::string header = fmt::format("blob {}", status_of(fd, path).st_size);
  check(EVP_DigestUpdate(git.get(), header.c_str(), header.size() + 1) == 1);  // with its zero byte
  read_pieces(fd, path, {}, [&](std::string_view piece) {
    sha.update(piece);
    check(EVP_DigestUpdate(git.get(), piece.data(), piece.size()) == 1);
  });
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  check(EVP_DigestFinal_ex(git.get(), digest, &size) == 1);
  return {BlobDigest(sha.finish()), to_hex({digest, size})};
}

// Empty: the bytes are those that the listing names.
std::string mismatch(const RemoteFile& file, const Hashes& got) {
  if (!file.sha256.empty() && file.sha256 != got.sha256.hex())
    return fmt::format("its SHA-256 must be {}, it is {}", file.sha256, got.sha256.hex());
  if (!file.git_sha1.empty() && file.git_sha1 != got.git_sha1)
    return fmt::format("its git hash must be {}, it is {}", file.git_sha1, got.git_sha1);
  return "";
}

}  // namespace

StagedFile download(const RemoteModel& model, const RemoteFile& file, const DownloadOptions& options,
                    PartialFile& part, PullObserver& observer) {
  std::error_code none;
  const bool has_hash = !file.sha256.empty() || !file.git_sha1.empty();
  if (part.done() == 0 && has_hash && !file.copy.empty() && file.bytes >= 0 &&
      fs::file_size(file.copy, none) == static_cast<uintmax_t>(file.bytes) && !none && part.adopt(file.copy))
    observer.note(fmt::format("{}: taken from {}", file.name, file.copy.parent_path().string()));
  for (;;) {
    const bool all_new = part.done() == 0;
    Download(model, file, options, part, observer).run();
    Hashes hashes = hash_whole(part.path());
    const std::string problem = mismatch(file, hashes);
    if (problem.empty()) return {file.name, std::move(hashes.sha256), part.bytes(), part.path()};
    part.forget();
    if (all_new)
      throw wrong(fmt::format("{} came with wrong bytes: {}. Nothing of it was kept", file.name, problem));
    observer.note(
        fmt::format("{}: the bytes of before are wrong ({}): from the beginning", file.name, problem));
  }
}

}  // namespace neutrino::weights
