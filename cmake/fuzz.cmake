# Fuzz targets: FOLDER/NAME_fuzz.cpp with LLVMFuzzerTestOneInput becomes fuzz_NAME. They need clang's libFuzzer and a build in
# which all is instrumented (tools/fuzz_gguf.sh configures one); elsewhere only the seeds are built. Never part of `all`.
function(neutrino_fuzz name folder)
  add_executable(${name}_seeds EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/src/${folder}/${name}_seeds_fuzz.cpp)
  target_link_libraries(${name}_seeds PRIVATE neutrino_${folder})
  if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
    add_executable(fuzz_${name} EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/src/${folder}/${name}_fuzz.cpp)
    target_link_libraries(fuzz_${name} PRIVATE neutrino_${folder} -fsanitize=fuzzer)
  endif()
endfunction()

neutrino_fuzz(gguf weights)
