// SPDX-License-Identifier: Apache-2.0
//
// The wire format, field by field (tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer).
#include "event_file.hpp"

#include <array>
#include <bit>

namespace ng::cli {
namespace {

template <class T>
void append_little_endian(std::string& to, T value) {
  for (std::size_t i = 0; i < sizeof value; ++i) to += static_cast<char>((value >> (8 * i)) & 0xff);
}

void append_varint(std::string& to, std::uint64_t value) {
  while (value >= 0x80) {
    to += static_cast<char>((value & 0x7f) | 0x80);
    value >>= 7;
  }
  to += static_cast<char>(value);
}

enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void append_key(std::string& to, std::uint32_t field, Wire wire) {
  append_varint(to, (field << 3) | static_cast<std::uint32_t>(wire));
}
void append_bytes(std::string& to, std::uint32_t field, std::string_view content) {
  append_key(to, field, Wire::bytes);
  append_varint(to, content.size());
  to += content;
}

// CRC-32C (Castagnoli), reflected, by table; then rotated and offset, as records store it.
std::uint32_t masked_crc(std::string_view data) {
  static const std::array<std::uint32_t, 256> kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
      table[i] = crc;
    }
    return table;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (const char c : data) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string event_at(double wall_time) {
  std::string event;
  append_key(event, 1, Wire::fixed64);
  append_little_endian(event, std::bit_cast<std::uint64_t>(wall_time));
  return event;
}

}  // namespace

EventFile::EventFile(double wall_time) {
  std::string event = event_at(wall_time);
  append_bytes(event, 3, "brain.Event:2");
  append(event);
}

void EventFile::scalar(double wall_time, std::int64_t step, std::string_view tag, float value) {
  std::string scalar;
  append_bytes(scalar, 1, tag);
  append_key(scalar, 2, Wire::fixed32);
  append_little_endian(scalar, std::bit_cast<std::uint32_t>(value));
  std::string summary;
  append_bytes(summary, 1, scalar);
  std::string event = event_at(wall_time);
  append_key(event, 2, Wire::varint);
  append_varint(event, static_cast<std::uint64_t>(step));
  append_bytes(event, 5, summary);
  append(event);
}

void EventFile::append(const std::string& message) {
  std::string length;
  append_little_endian(length, static_cast<std::uint64_t>(message.size()));
  bytes_ += length;
  append_little_endian(bytes_, masked_crc(length));
  bytes_ += message;
  append_little_endian(bytes_, masked_crc(message));
}

}  // namespace ng::cli
