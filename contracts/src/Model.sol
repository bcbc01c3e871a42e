// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Asset} from "./Asset.sol";

/**
 * @title Model: trained by the platform from its parents, in a pinned environment
 * @notice Own fields: environment (32 bytes).
 */
contract Model is Asset {
    uint8 public constant kind = 2;
    uint16 public constant ownLength = 32;
    uint8 public constant minParents = 1;
    bool public constant takesResult = true;

    constructor(address registry_) Asset(registry_) {}

    /// @notice sha256 of the pinned environment, in clear, so that all models of a flawed one can be found here.
    function environment() external view returns (bytes32) {
        return _ownWord(32);
    }
}
