# neutrino_fuzz(NAME FOLDER SOURCES pattern...): src/FOLDER/NAME_fuzz.cpp with LLVMFuzzerTestOneInput becomes fuzz_NAME, and
# NAME_seeds_fuzz.cpp becomes NAME_seeds, which writes the first corpus. The sources under test are built in, so that nothing else has
# to be instrumented. fuzz_NAME needs clang's libFuzzer (tools/fuzz_gguf.sh configures such a build). Never part of `all`.
function(neutrino_fuzz name folder)
  cmake_parse_arguments(ARG "" "" "SOURCES" ${ARGN})
  list(TRANSFORM ARG_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/src/)
  file(GLOB sources CONFIGURE_DEPENDS ${ARG_SOURCES})
  list(FILTER sources EXCLUDE REGEX "(_test|_fuzz)\\.cpp$")
  add_library(${name}_under_test STATIC EXCLUDE_FROM_ALL ${sources})
  target_include_directories(${name}_under_test PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name}_under_test PUBLIC neutrino_base)
  add_executable(${name}_seeds EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/src/${folder}/${name}_seeds_fuzz.cpp)
  target_link_libraries(${name}_seeds PRIVATE ${name}_under_test)
  if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
    add_executable(fuzz_${name} EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/src/${folder}/${name}_fuzz.cpp)
    target_link_libraries(fuzz_${name} PRIVATE ${name}_under_test -fsanitize=fuzzer)
  endif()
endfunction()

neutrino_fuzz(gguf weights SOURCES
  weights/gguf*.cpp weights/reader.cpp weights/weight_file.cpp weights/formats.cpp weights/shard_name.cpp weights/metadata_values.cpp
  weights/safetensors*.cpp weights/checkpoint*.cpp weights/layouts/*.cpp tokenizer/*.cpp compute/dtype.cpp compute/dequantize*.cpp)
