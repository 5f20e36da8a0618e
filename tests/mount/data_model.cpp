// SPDX-License-Identifier: MIT
#include "mount/data_model.hpp"

#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <utility>

namespace remofile::test {

void ModelFile::changed_by(int process) {
    modified.reset();
    current[static_cast<std::size_t>(1 - process)] = false;
}

void ModelFile::write(std::size_t offset, std::string_view bytes) {
    if (bytes.empty())
        return;
    content.resize(std::max(content.size(), offset + bytes.size()), '\0');
    content.replace(offset, bytes.size(), bytes);
}

void ModelFile::resize(std::size_t size) {
    content.resize(size, '\0');
}

void ModelFile::zero(std::size_t offset, std::size_t size) {
    if (offset < content.size())
        std::fill_n(content.begin() + static_cast<off_t>(offset), std::min(size, content.size() - offset), '\0');
}

std::string ModelFile::read(std::size_t offset, std::size_t size) const {
    return offset < content.size() ? content.substr(offset, size) : "";
}

bool ModelFile::only_zeros(std::size_t from, std::size_t to) const {
    const std::string_view range = std::string_view(content).substr(0, to).substr(std::min(from, content.size()));
    return range.find_first_not_of('\0') == std::string_view::npos;
}

ModelHandle& DataModel::handle(int process, int slot) {
    return handles_[static_cast<std::size_t>(process)][static_cast<std::size_t>(slot)];
}

ModelFilePtr DataModel::find(std::string_view path) const {
    const auto found = names_.find(path);
    return found == names_.end() ? nullptr : found->second;
}

std::optional<std::string> DataModel::name_of(const ModelFilePtr& file) const {
    for (const auto& [name, named] : names_) {
        if (named == file)
            return name;
    }
    return {};
}

ModelFilePtr DataModel::create(std::string_view path) {
    auto file = std::make_shared<ModelFile>();
    file->links = 1;
    names_.emplace(path, file);
    return file;
}

int DataModel::rename(std::string_view from, std::string_view to, int flags) {
    const ModelFilePtr source = find(from), target = find(to);
    if (!source || (flags == RENAME_EXCHANGE && !target))
        return ENOENT;
    if (flags == RENAME_NOREPLACE && target)
        return EEXIST;
    if (source == target)
        return 0;
    if (flags == RENAME_EXCHANGE) {
        std::swap(names_.find(from)->second, names_.find(to)->second);
        return 0;
    }
    if (target)
        unlink(to);
    names_.erase(names_.find(from));
    names_.emplace(to, source);
    return 0;
}

int DataModel::link(std::string_view from, std::string_view to) {
    const ModelFilePtr source = find(from);
    if (!source)
        return ENOENT;
    if (find(to))
        return EEXIST;
    ++source->links;
    names_.emplace(to, source);
    return 0;
}

int DataModel::unlink(std::string_view path) {
    const ModelFilePtr file = find(path);
    if (!file)
        return ENOENT;
    --file->links;
    names_.erase(names_.find(path));
    return 0;
}

bool DataModel::unflushed_by(int process, const ModelFilePtr& file) const {
    const auto& handles = handles_[static_cast<std::size_t>(process)];
    return std::any_of(handles.begin(), handles.end(),
                       [&](const ModelHandle& handle) { return handle.file == file && handle.unflushed; });
}

void DataModel::flushed(int process, const ModelFilePtr& file) {
    for (ModelHandle& handle : handles_[static_cast<std::size_t>(process)]) {
        if (handle.file == file)
            handle.unflushed = false;
    }
}

std::string difference_between(std::string_view expected, std::string_view actual) {
    if (expected == actual)
        return {};
    const auto at = static_cast<std::size_t>(
        std::mismatch(expected.begin(), expected.end(), actual.begin(), actual.end()).first - expected.begin());
    std::ostringstream text;
    text << "expected " << expected.size() << " bytes, got " << actual.size() << ", equal up to byte " << at << ":"
         << std::hex;
    for (const auto& [who, bytes] : {std::pair{" expected", expected}, {", got", actual}}) {
        text << who;
        for (const char byte : bytes.substr(std::min(at, bytes.size()), 8))
            text << ' ' << static_cast<unsigned>(static_cast<unsigned char>(byte));
    }
    // How far it goes tells pages, blocks and whole files apart.
    std::size_t end = std::min(expected.size(), actual.size());
    while (end > at && expected[end - 1] == actual[end - 1])
        --end;
    text << std::dec << "; the last byte that differs in both: " << (end > at ? std::to_string(end - 1) : "none");
    return text.str();
}

}  // namespace remofile::test
