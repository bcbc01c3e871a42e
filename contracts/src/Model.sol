// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Asset} from "./Asset.sol";
import {IAsset} from "./IAsset.sol";

/**
 * @title Model: trained by the platform from its parents, in a pinned environment
 * @notice Own fields: environment (32 bytes).
 */
contract Model is Asset {
    /// @inheritdoc IAsset
    uint8 public constant kind = 2;

    /// @inheritdoc IAsset
    uint16 public constant ownLength = 32;

    /// @inheritdoc IAsset
    uint8 public constant minParents = 1;

    /// @inheritdoc IAsset
    bool public constant takesResult = true;

    constructor(address registry_) Asset(registry_) {}

    /// @notice sha256 of the pinned environment, in clear, so that all models of a flawed one can be found here.
    function environment() external view returns (bytes32) {
        return _ownWord(32);
    }
}
