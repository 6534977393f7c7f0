#include <iostream>

#include "monarchrt/engine.h"

int main(int argc, char** argv) {
  if (argc != 4) return std::cerr << "usage: generate MODEL CHECKPOINT PROMPT >rgb\n", 2;
  auto engine = monarchrt::Engine::Load({.model = argv[1], .checkpoint = argv[2]});
  if (!engine.ok()) return std::cerr << engine.status().message() << '\n', 1;
  auto stream = engine->Open({.prompt = argv[3], .width = 80, .height = 48, .frames = 21});
  if (!stream.ok()) return std::cerr << stream.status().message() << '\n', 1;
  while (!stream->done()) {
    auto chunk = stream->Next();  // 9 frames first, then 12 at a time
    if (!chunk.ok()) return std::cerr << chunk.status().message() << '\n', 1;
    std::cerr << chunk->frames << " frames at " << chunk->start_s << " s\n";
    std::cout.write(reinterpret_cast<const char*>(chunk->rgb.data()),
                    static_cast<std::streamsize>(chunk->rgb.size()));
  }
}
